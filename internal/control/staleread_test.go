package control_test

import (
	"context"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestPassTellsNoOldClocks: the clocks of a sandbox change after a pass has read its row
// and before the pass has asked the host. The host keeps the new ones.
func TestPassTellsNoOldClocks(t *testing.T) {
	b := setup(t)
	row := b.createWith(sandbox.Spec{Timeout: time.Minute})
	b.store.afterUnended = func() {
		if _, err := b.SetTimeouts(t.Context(), row.ID, control.ClockRequest{Idle: ptr(time.Hour)}); err != nil {
			t.Error(err)
		}
	}
	b.reconcile()
	if got := b.host.vms[row.ID].Spec.Timeout; got != time.Hour {
		t.Errorf("after the pass the host's idle timeout is %s, want 1h", got)
	}
}

// TestPassRevivesNoDeletedSnapshot: a snapshot is deleted after a pass has read its row
// as creating. Its host fails to delete the files, so the pass still finds them, and must
// not make the row ready.
func TestPassRevivesNoDeletedSnapshot(t *testing.T) {
	b := setup(t)
	b.host.script(false, "snapshot", lost)
	if _, err := b.CreateSnapshot(t.Context(), b.create().ID, control.NewSnapshot{}); !control.OutcomeUnknown(err) {
		t.Fatalf("the snapshot's outcome is known: %v", err)
	}
	list, _, err := b.ListSnapshots(t.Context(), control.SnapshotFilter{})
	if err != nil || len(list) != 1 {
		t.Fatalf("%d snapshots, %v, want 1", len(list), err)
	}
	b.store.afterSnapshots = func() {
		_, won, err := b.store.MoveSnapshot(t.Context(), control.SnapshotMove{
			ID: list[0].ID, From: []control.SnapshotStatus{control.SnapshotCreating}, To: control.SnapshotDeleting,
		})
		if err != nil || !won {
			t.Errorf("move to deleting: won %t, %v", won, err)
		}
	}
	b.reconcile()
	b.wantSnapshot(list[0].ID, control.SnapshotDeleting)
	b.reconcile()
	b.wantSnapshot(list[0].ID, "")
	if onHost, rows := b.left(); onHost != 0 || rows != 0 {
		t.Errorf("%d snapshots on the host and %d rows are left, want none", onHost, rows)
	}
}

// TestPassOfAnotherHost: a host has a VM whose row belongs to another host, as after a
// copy of its data directory. The pass deletes the VM and leaves the row alone.
func TestPassOfAnotherHost(t *testing.T) {
	b := setup(t)
	if err := b.store.SaveHost(t.Context(), control.HostInfo{ID: "h2"}, control.Capacity{VCPUs: 4, MemoryMB: 4096}); err != nil {
		t.Fatal(err)
	}
	row, err := b.store.Insert(t.Context(), control.Sandbox{
		ID: sandbox.NewID(), Generation: 1, State: sandbox.Pending, HostID: "h2", Spec: sandbox.Spec{}.WithDefaults(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.store.Move(t.Context(), control.Move{Ref: row.Ref(), From: sandbox.Pending, To: sandbox.Running}); err != nil {
		t.Fatal(err)
	}
	for _, state := range []control.VMState{control.VMStopped, control.VMPaused} {
		b.host.put(control.ObservedSandbox{Ref: row.Ref(), State: state, StopReason: sandbox.ReasonExpired})
		b.reconcile()
		b.want(row.ID, sandbox.Running, "", "")
	}
}

// TestCreateOnAHostThatHasRoomAgain: the known usage of a host is old when a create
// finds it full, so it is read again before the create is refused.
func TestCreateOnAHostThatHasRoomAgain(t *testing.T) {
	b := setup(t) // the host has room for 8
	var last control.Sandbox
	for range 8 {
		last = b.create()
	}
	if err := b.Destroy(t.Context(), last.ID); err != nil {
		t.Fatal(err)
	}
	b.create()
}

// TestPassSparesANewerIncarnation: a pass finds a VM of an older incarnation, and the
// host has the present one when the command to delete arrives. The command names the
// incarnation that was observed, so the present one stays.
func TestPassSparesANewerIncarnation(t *testing.T) {
	b := setup(t)
	row := b.create()
	if _, err := b.Pause(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	row, err := b.Resume(t.Context(), row.ID)
	if err != nil {
		t.Fatal(err)
	}
	present := *b.host.vms[row.ID]
	older := present
	older.Ref.Generation--
	b.host.put(older)
	deleting := make(chan struct{}, 1)
	b.host.script(true, "destroy", func(context.Context, sandbox.Ref) error {
		b.host.put(present)
		deleting <- struct{}{}
		return nil
	})
	b.reconcile()
	select {
	case <-deleting:
	default:
		t.Error("the pass deleted no VM")
	}
	b.want(row.ID, sandbox.Running, "", control.VMRunning)
}
