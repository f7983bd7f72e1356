package host_test

import (
	"testing"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestCoreLifecycle takes one sandbox through every operation.
func TestCoreLifecycle(t *testing.T) {
	c := newCore(t, t.TempDir())
	ref := c.create()
	c.sound()
	_, err := c.Snapshot(t.Context(), c.of(ref).Ref, coreSnapshot, false)
	check(t, err)
	child := newRef()
	_, err = c.CreateFrom(t.Context(), child, coreSpec, coreSnapshot)
	check(t, err)
	if got := c.read(child, mark); got != string(ref.ID) {
		t.Errorf("the fork's file holds %q, want the parent's", got)
	}
	c.sound()
	c.empty()
}

const coreSnapshot = sandbox.SnapshotID("core00000000000000000000")
