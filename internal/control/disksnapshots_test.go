package control_test

import (
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestSnapshotWithoutMemory: the host is asked for the disk alone, and a refused request
// leaves no row.
func TestSnapshotWithoutMemory(t *testing.T) {
	b := setup(t)
	of := b.createWith(sandbox.Spec{})
	for _, diskOnly := range []bool{true, false} {
		snap, err := b.CreateSnapshot(t.Context(), of.ID, control.NewSnapshot{DiskOnly: diskOnly})
		if err != nil || snap.Status != control.SnapshotReady {
			t.Fatalf("without memory %t: %+v, %v", diskOnly, snap, err)
		}
		if got := b.host.snaps[snap.ID].DiskOnly; got != diskOnly {
			t.Errorf("the host's snapshot is without memory: %t, want %t", got, diskOnly)
		}
		if err := b.DeleteSnapshot(t.Context(), snap.ID); err != nil {
			t.Fatal(err)
		}
	}
	_, err := b.CreateSnapshot(t.Context(), of.ID, control.NewSnapshot{DiskOnly: true, Force: true})
	wantFault(t, err, fault.Invalid, "invalid_force")
	b.host.script(true, "snapshot", refuse(fault.New(fault.WrongState, "paused_with_memory", "it has a memory")))
	_, err = b.CreateSnapshot(t.Context(), of.ID, control.NewSnapshot{DiskOnly: true})
	wantFault(t, err, fault.WrongState, "paused_with_memory")
	b.wantNoSnapshots()
}
