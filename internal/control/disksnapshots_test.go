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
		if got := b.host.snaps[snap.ID].DiskOnly; got != diskOnly || snap.DiskOnly != diskOnly {
			t.Errorf("without memory are the host's snapshot: %t, and the row: %t, want %t", got, snap.DiskOnly, diskOnly)
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

// TestSnapshotWithoutMemoryIsNeverIgnored: the snapshot of a host that keeps the memory all
// the same is deleted, whether its answer comes or is lost.
func TestSnapshotWithoutMemoryIsNeverIgnored(t *testing.T) {
	b := setup(t)
	of := b.createWith(sandbox.Spec{})
	b.host.keepsMemory = true
	_, err := b.CreateSnapshot(t.Context(), of.ID, control.NewSnapshot{DiskOnly: true})
	wantFault(t, err, fault.Unsupported, "disk_pause_unsupported")
	b.wantNoSnapshots()

	b.host.script(false, "snapshot", lost)
	_, err = b.CreateSnapshot(t.Context(), of.ID, control.NewSnapshot{DiskOnly: true})
	wantFault(t, err, fault.HostFailed, "outcome_unknown")
	list, _, err := b.ListSnapshots(t.Context(), control.SnapshotFilter{})
	if err != nil || len(list) != 1 || list[0].Status != control.SnapshotCreating || !list[0].DiskOnly {
		t.Fatalf("after a lost answer: %+v, %v, want a row that is creating, without memory", list, err)
	}
	b.reconcile()
	b.wantSnapshot(list[0].ID, control.SnapshotError)
	if n := len(b.host.snaps); n != 0 {
		t.Errorf("the host has %d snapshots, want none", n)
	}
}

// TestSnapshotWithoutMemoryAfterALostAnswer: the reconciler accepts a snapshot that is as
// it was asked for.
func TestSnapshotWithoutMemoryAfterALostAnswer(t *testing.T) {
	b := setup(t)
	of := b.createWith(sandbox.Spec{})
	b.host.script(false, "snapshot", lost)
	_, err := b.CreateSnapshot(t.Context(), of.ID, control.NewSnapshot{DiskOnly: true})
	wantFault(t, err, fault.HostFailed, "outcome_unknown")
	b.reconcile()
	list, _, err := b.ListSnapshots(t.Context(), control.SnapshotFilter{})
	if err != nil || len(list) != 1 || list[0].Status != control.SnapshotReady || !list[0].DiskOnly {
		t.Errorf("after a pass: %+v, %v, want one ready snapshot without memory", list, err)
	}
}
