package control_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func (b *bundle) snapshot(id sandbox.ID) control.Snapshot {
	b.t.Helper()
	snap, err := b.CreateSnapshot(b.t.Context(), id, control.NewSnapshot{})
	if err != nil {
		b.t.Fatal("snapshot:", err)
	}
	return snap
}

// wantSnapshot checks the status of a snapshot's row; "" is no row.
func (b *bundle) wantSnapshot(id sandbox.SnapshotID, status control.SnapshotStatus) {
	b.t.Helper()
	row, err := b.GetSnapshot(b.t.Context(), id)
	if status == "" {
		wantFault(b.t, err, fault.NotFound, "snapshot_not_found")
		return
	}
	if err != nil || row.Status != status {
		b.t.Errorf("snapshot is %s, %v, want %s", row.Status, err, status)
	}
}

func TestSnapshotLife(t *testing.T) {
	b := setup(t)
	of := b.createWith(sandbox.Spec{MemoryMB: 256})
	snap, err := b.CreateSnapshot(t.Context(), of.ID, control.NewSnapshot{Name: "after install", Metadata: map[string]string{"k": "v"}})
	if err != nil {
		t.Fatal(err)
	}
	if snap.Status != control.SnapshotReady || snap.Bytes != 4096 || snap.PauseWindow != 40*time.Millisecond ||
		snap.Of != of.Ref() || snap.Name != "after install" || snap.Metadata["k"] != "v" || snap.Spec.MemoryMB != 256 ||
		snap.Spec.Runtime == "" || snap.Spec.Runtime != of.Spec.Runtime {
		t.Errorf("%+v, want one of a sandbox on %q", snap, of.Spec.Runtime)
	}
	if err := b.Destroy(t.Context(), of.ID); err != nil {
		t.Fatal(err)
	}
	b.reconcile()
	b.wantSnapshot(snap.ID, control.SnapshotReady)

	copied, err := b.Create(t.Context(), control.NewSandbox{SnapshotID: snap.ID})
	if err != nil || copied.SnapshotID != snap.ID || copied.Spec.MemoryMB != 256 || copied.HostID != "h1" {
		t.Fatalf("%+v, %v", copied, err)
	}
	if b.host.vms[copied.ID].SnapshotID != snap.ID {
		t.Error("the host was not told of the snapshot")
	}
	list, _, err := b.ListSnapshots(t.Context(), control.SnapshotFilter{SandboxID: of.ID})
	if err != nil || len(list) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	if err := b.DeleteSnapshot(t.Context(), snap.ID); err != nil {
		t.Fatal(err)
	}
	b.wantSnapshot(snap.ID, "")
	b.wantNoSnapshots()
	wantFault(t, b.DeleteSnapshot(t.Context(), snap.ID), fault.NotFound, "snapshot_not_found")
	_, err = b.Create(t.Context(), control.NewSandbox{SnapshotID: snap.ID})
	wantFault(t, err, fault.NotFound, "snapshot_not_found")
	if list, _, err := b.ListSnapshots(t.Context(), control.SnapshotFilter{SandboxID: "nosuch"}); err != nil || len(list) != 0 {
		t.Errorf("snapshots of no sandbox: %v, %v, want an empty list", list, err)
	}
}

func TestSnapshotFixesSize(t *testing.T) {
	b := setup(t)
	snap := b.snapshot(b.create().ID)
	for field, spec := range map[string]sandbox.Spec{
		"template": {Template: "other"}, "vcpus": {VCPUs: 2}, "memory_mb": {MemoryMB: 256}, "disk_mb": {DiskMB: 4096},
		"runtime": {Runtime: sandbox.RuntimeGVisor},
	} {
		_, err := b.Create(t.Context(), control.NewSandbox{SnapshotID: snap.ID, Spec: request(spec)})
		wantFault(t, err, fault.Invalid, "snapshot_fixes_size")
		if err != nil && !strings.HasPrefix(fault.As(err).Public, field+" ") {
			t.Errorf("%s is not named: %v", field, err)
		}
	}
	same := sandbox.Spec{}.WithDefaults()
	if _, err := b.Create(t.Context(), control.NewSandbox{SnapshotID: snap.ID, Spec: request(same)}); err != nil {
		t.Errorf("the same sizes are refused: %v", err)
	}
}

func TestSnapshotQuota(t *testing.T) {
	b := setup(t, func(c *control.Config) { c.MaxSnapshots = 2 })
	of := b.create()
	first := b.snapshot(of.ID)
	b.snapshot(of.ID)
	_, err := b.CreateSnapshot(t.Context(), of.ID, control.NewSnapshot{})
	wantFault(t, err, fault.Quota, "snapshot_quota")
	if _, err := b.Fork(t.Context(), of.ID, control.Fork{Count: 1}); err != nil {
		t.Errorf("a fork counts as a snapshot: %v", err)
	}
	if err := b.DeleteSnapshot(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	b.snapshot(of.ID)
}

func TestSnapshotByteQuota(t *testing.T) {
	b := setup(t, func(c *control.Config) { c.MaxSnapshotBytes = 4096 })
	of := b.create()
	b.snapshot(of.ID)
	_, err := b.CreateSnapshot(t.Context(), of.ID, control.NewSnapshot{})
	wantFault(t, err, fault.Quota, "snapshot_quota")
}

func TestSnapshotRefused(t *testing.T) {
	b := setup(t)
	of := b.create()
	for _, name := range []string{strings.Repeat("x", control.MaxSnapshotName+1), "a\nb", "\xff"} {
		_, err := b.CreateSnapshot(t.Context(), of.ID, control.NewSnapshot{Name: name})
		wantFault(t, err, fault.Invalid, "invalid_name")
	}
	_, err := b.CreateSnapshot(t.Context(), "nosuch", control.NewSnapshot{})
	wantFault(t, err, fault.NotFound, "sandbox_not_found")
	b.host.script(true, "snapshot", refuse(fault.New(fault.NoCapacity, "disk_reserve", "the disk is almost full")))
	_, err = b.CreateSnapshot(t.Context(), of.ID, control.NewSnapshot{})
	wantFault(t, err, fault.NoCapacity, "disk_reserve")
	b.wantNoSnapshots()
}

// TestSnapshotAnswerLost: the reconciler finds out the fate of the snapshot.
func TestSnapshotAnswerLost(t *testing.T) {
	for _, before := range []bool{true, false} {
		t.Run(map[bool]string{true: "request", false: "answer"}[before], func(t *testing.T) {
			b := setup(t)
			of := b.create()
			b.host.script(before, "snapshot", lost)
			_, err := b.CreateSnapshot(t.Context(), of.ID, control.NewSnapshot{})
			wantFault(t, err, fault.HostFailed, "outcome_unknown")
			list, _, err := b.ListSnapshots(t.Context(), control.SnapshotFilter{})
			if err != nil || len(list) != 1 || list[0].Status != control.SnapshotCreating {
				t.Fatalf("%+v, %v", list, err)
			}
			wantFault(t, b.DeleteSnapshot(t.Context(), list[0].ID), fault.WrongState, "snapshot_not_ready")
			_, err = b.Create(t.Context(), control.NewSandbox{SnapshotID: list[0].ID})
			wantFault(t, err, fault.WrongState, "snapshot_not_ready")
			b.reconcile()
			if before {
				b.wantSnapshot(list[0].ID, control.SnapshotError)
			} else {
				b.wantSnapshot(list[0].ID, control.SnapshotReady)
			}
			if err := b.DeleteSnapshot(t.Context(), list[0].ID); err != nil {
				t.Error(err)
			}
			b.wantNoSnapshots()
		})
	}
}

// TestReconcileSnapshots has a host lose one snapshot and keep one without a
// row, and a third one grow.
func TestReconcileSnapshots(t *testing.T) {
	b := setup(t, func(c *control.Config) { c.Retention = 0 })
	of := b.create()
	lostOne, kept := b.snapshot(of.ID), b.snapshot(of.ID)
	if _, err := b.SetTemplate(t.Context(), lostOne.ID, "mine"); err != nil {
		t.Fatal(err)
	}
	b.host.mu.Lock()
	delete(b.host.snaps, lostOne.ID)
	b.host.snaps["stranger"] = &control.ObservedSnapshot{ID: "stranger"}
	b.host.snaps["gone"] = &control.ObservedSnapshot{ID: "gone", Deleted: true}
	b.host.snaps[kept.ID].Users = 3
	b.host.mu.Unlock()
	b.reconcile()
	b.wantSnapshot(lostOne.ID, control.SnapshotError)
	if row, err := b.GetSnapshot(t.Context(), kept.ID); err != nil || row.Users != 3 {
		t.Errorf("%+v, %v", row, err)
	}
	b.host.mu.Lock()
	_, stranger := b.host.snaps["stranger"]
	_, gone := b.host.snaps["gone"]
	b.host.mu.Unlock()
	if stranger || !gone {
		t.Errorf("a snapshot without a row is there: %t; one that is deleted already was deleted again: %t", stranger, !gone)
	}
	if err := b.DeleteEnded(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.wantSnapshot(lostOne.ID, "")
	b.wantSnapshot(kept.ID, control.SnapshotReady)
}

func TestDeleteSnapshotHostDown(t *testing.T) {
	b := setup(t)
	snap := b.snapshot(b.create().ID)
	b.host.setDown(true)
	for range 2 { // the second finds it deleting
		wantFault(t, b.DeleteSnapshot(t.Context(), snap.ID), fault.HostFailed, "delete_pending")
	}
	b.wantSnapshot(snap.ID, control.SnapshotDeleting)
	b.host.setDown(false)
	b.reconcile()
	b.wantNoSnapshots()
}

func TestSnapshotOfLostVM(t *testing.T) {
	b := setup(t)
	of := b.create()
	b.host.forget(of.ID)
	_, err := b.CreateSnapshot(t.Context(), of.ID, control.NewSnapshot{})
	wantFault(t, err, fault.WrongState, "sandbox_ended")
	b.wantNoSnapshots()
}

func TestTemplateOfSnapshot(t *testing.T) {
	b := setup(t)
	of := b.createWith(sandbox.Spec{MemoryMB: 256})
	snap, other := b.snapshot(of.ID), b.snapshot(of.ID)
	_, err := b.SetTemplate(t.Context(), snap.ID, "minimal")
	wantFault(t, err, fault.Exists, "template_exists")
	_, err = b.SetTemplate(t.Context(), snap.ID, "../x")
	wantFault(t, err, fault.Invalid, "invalid_template")
	_, err = b.SetTemplate(t.Context(), "nosuch", "mine")
	wantFault(t, err, fault.NotFound, "snapshot_not_found")
	for range 2 {
		row, err := b.SetTemplate(t.Context(), snap.ID, "mine")
		if err != nil || row.TemplateName != "mine" {
			t.Fatalf("%+v, %v", row, err)
		}
	}
	_, err = b.SetTemplate(t.Context(), other.ID, "mine")
	wantFault(t, err, fault.Exists, "template_exists")
	wantFault(t, b.DeleteSnapshot(t.Context(), snap.ID), fault.WrongState, "snapshot_is_template")

	row := b.createWith(sandbox.Spec{Template: "mine"})
	if row.SnapshotID != snap.ID || row.Spec.Template != "minimal" || row.Spec.MemoryMB != 256 {
		t.Errorf("%+v", row)
	}
	_, err = b.Create(t.Context(), control.NewSandbox{Spec: request(sandbox.Spec{Template: "mine", MemoryMB: 512})})
	wantFault(t, err, fault.Invalid, "snapshot_fixes_size")

	for range 2 {
		if _, err := b.SetTemplate(t.Context(), snap.ID, ""); err != nil {
			t.Fatal(err)
		}
	}
	_, err = b.Create(t.Context(), control.NewSandbox{Spec: request(sandbox.Spec{Template: "mine"})})
	wantFault(t, err, fault.Invalid, "template_not_found")
	if err := b.DeleteSnapshot(t.Context(), snap.ID); err != nil {
		t.Error(err)
	}
}

// TestCreateFromVanishedSnapshot: the host has lost it since the row was read.
func TestCreateFromVanishedSnapshot(t *testing.T) {
	b := setup(t)
	snap := b.snapshot(b.create().ID)
	if err := b.host.DeleteSnapshot(context.Background(), snap.ID); err != nil {
		t.Fatal(err)
	}
	_, err := b.Create(t.Context(), control.NewSandbox{SnapshotID: snap.ID})
	wantFault(t, err, fault.NotFound, "snapshot_not_found")
}

func TestCollectGarbage(t *testing.T) {
	b := setup(t)
	items, err := b.CollectGarbage(t.Context(), control.GarbageList)
	if err != nil || len(items) != 1 || items[0].HostID != "h1" || items[0].Bytes != 7 {
		t.Errorf("%+v, %v", items, err)
	}
	if _, err := b.CollectGarbage(t.Context(), control.GarbageRemove); err != nil || b.host.count["gc remove"] != 1 || b.host.count["gc list"] != 1 {
		t.Errorf("%v, %v", b.host.count, err)
	}
	b.host.script(true, "gc list", refuse(fault.New(fault.Internal, "broken", "broken")))
	_, err = b.CollectGarbage(t.Context(), control.GarbageList)
	wantFault(t, err, fault.HostFailed, "broken")
}
