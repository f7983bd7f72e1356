package boot

import (
	"testing"
	"time"
)

// TestUntilFull: the time until the next look is within its limits for every size of
// memory.
func TestUntilFull(t *testing.T) {
	for free, want := range map[uint64]time.Duration{
		0:                watchOften,
		fillRate / 2:     time.Second / 2,
		9 << 30:          9 * time.Second / 2,
		12 << 30:         watchSeldom, // bytes times nanoseconds are more than an int64 holds
		2 << 40:          watchSeldom,
		uint64(40 << 30): watchSeldom,
	} {
		if got := untilFull(free); got != want {
			t.Errorf("with %d MiB free: next look in %v, want %v", free>>20, got, want)
		}
	}
}
