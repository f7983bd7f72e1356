package host_test

import (
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host"
)

// TestProbesOfAnUnusedSandbox: the longer nobody uses a sandbox, the less often it is
// probed, down to a fixed rate.
func TestProbesOfAnUnusedSandbox(t *testing.T) {
	const interval = 30 * time.Second
	for unused, want := range map[time.Duration]time.Duration{
		-time.Minute:          interval, // used since the last probe
		0:                     interval,
		29 * time.Second:      interval,
		time.Minute:           time.Minute,
		100 * time.Second:     100 * time.Second,
		4 * time.Minute:       4 * time.Minute,
		20 * time.Minute:      4 * time.Minute,
		1000 * 24 * time.Hour: 4 * time.Minute,
	} {
		if got := host.ProbeWait(interval, unused); got != want {
			t.Errorf("unused for %s: next probe after %s, want %s", unused, got, want)
		}
	}
}
