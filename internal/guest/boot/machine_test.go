package boot

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestOffsetBy: the kernel takes an offset as seconds, and nanoseconds from 0 to
// 999,999,999, also for a step back (ADJ_SETOFFSET in clock_adjtime(2)).
func TestOffsetBy(t *testing.T) {
	for step, want := range map[time.Duration]unix.Timeval{
		time.Nanosecond:          {Sec: 0, Usec: 1},
		1500 * time.Millisecond:  {Sec: 1, Usec: 500_000_000},
		-time.Nanosecond:         {Sec: -1, Usec: 999_999_999},
		-1500 * time.Millisecond: {Sec: -2, Usec: 500_000_000},
		-time.Second:             {Sec: -1, Usec: 0},
	} {
		if got := offsetBy(step); got.Time != want || got.Modes != unix.ADJ_SETOFFSET|unix.ADJ_NANO {
			t.Errorf("%s: %+v, want %+v", step, got, want)
		}
	}
}
