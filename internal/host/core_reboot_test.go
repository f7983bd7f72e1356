package host_test

import (
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// awaitPause waits until the sandbox of ref is paused, and reports whether it has no memory.
func (c *core) awaitPause(ref sandbox.Ref) (diskOnly bool) {
	c.t.Helper()
	changes, cancel := c.Subscribe()
	defer cancel()
	for s := c.of(ref); ; {
		if s.Ref.ID == ref.ID && s.State == sandbox.Paused {
			return s.DiskOnly
		}
		select {
		case s = <-changes:
		case <-c.t.Context().Done():
			c.t.Fatalf("the sandbox is %s, want paused", c.of(ref).State)
		}
	}
}

// TestCoreTimeoutWithoutMemory: where the pause of a sandbox that timed out cannot be one
// without memory, the memory is kept, so that the host is free in any case.
func TestCoreTimeoutWithoutMemory(t *testing.T) {
	for _, k := range shapes(t) {
		t.Run(k.name, func(t *testing.T) {
			c := newCoreOf(t, k)
			for _, fails := range []string{"", journal.StepPauseQuiesce, journal.StepPauseSave} {
				if fails != "" {
					c.hook.arm(fails, false)
				}
				spec := coreSpec
				spec.Timeout, spec.OnTimeout, spec.PauseDiskOnly = 10*time.Millisecond, sandbox.TimeoutPause, true
				ref := newRef()
				_, err := c.Create(t.Context(), ref, spec)
				check(t, err)
				if diskOnly := c.awaitPause(ref); diskOnly != (fails == "") {
					t.Errorf("failed step %q: paused without memory is %t, want %t", fails, diskOnly, fails == "")
				}
				check(t, c.Destroy(t.Context(), ref, ""))
			}
		})
	}
}
