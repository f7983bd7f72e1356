package control_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// left returns how many snapshots the host and the database have, of any kind.
func (b *bundle) left() (onHost, rows int) {
	b.t.Helper()
	all, err := b.store.SnapshotsOf(b.t.Context(), b.host.id)
	if err != nil {
		b.t.Fatal(err)
	}
	b.host.mu.Lock()
	defer b.host.mu.Unlock()
	return len(b.host.snaps), len(all)
}

func (b *bundle) wantNoSnapshots() {
	b.t.Helper()
	if onHost, rows := b.left(); onHost != 0 || rows != 0 {
		b.t.Errorf("%d snapshots on the host and %d rows are left", onHost, rows)
	}
}

func TestFork(t *testing.T) {
	for _, paused := range []bool{false, true} {
		t.Run(map[bool]string{false: "running", true: "paused"}[paused], func(t *testing.T) {
			b := setup(t)
			parent, err := b.Create(t.Context(), control.NewSandbox{
				Spec:     request(sandbox.Spec{Timeout: time.Minute, OnTimeout: sandbox.TimeoutPause}),
				Metadata: map[string]string{"a": "parent", "b": "parent"},
			})
			if err != nil {
				t.Fatal(err)
			}
			before := control.VMRunning
			if paused {
				before = control.VMPaused
				if _, err := b.Pause(t.Context(), parent.ID); err != nil {
					t.Fatal(err)
				}
			}
			out, err := b.Fork(t.Context(), parent.ID, control.Fork{
				Count: 3, Env: map[string]string{"E": "1"}, Metadata: map[string]string{"b": "child"},
				Clocks: control.ClockRequest{Lifetime: ptr(time.Hour)},
			})
			if err != nil || len(out.Sandboxes) != 3 || len(out.Failed) != 0 || out.PauseWindow != 40*time.Millisecond {
				t.Fatalf("%+v, %v", out, err)
			}
			for _, child := range out.Sandboxes {
				b.want(child.ID, sandbox.Running, "", control.VMRunning)
				if child.ParentID != parent.ID || child.SnapshotID != "" || child.Source != "fork" ||
					child.Metadata["a"] != "parent" || child.Metadata["b"] != "child" {
					t.Errorf("%+v", child)
				}
				vm := b.host.vms[child.ID].Spec
				if vm.Timeout != time.Minute || vm.Lifetime != time.Hour || vm.OnTimeout != sandbox.TimeoutPause || vm.Env["E"] != "1" {
					t.Errorf("the host was told %+v", vm)
				}
			}
			if got := b.host.has(parent.ID); got != before {
				t.Errorf("the parent is %s, was %s", got, before)
			}
			b.wantNoSnapshots()
			if list, _, err := b.ListSnapshots(t.Context(), control.SnapshotFilter{}); err != nil || len(list) != 0 {
				t.Errorf("a fork's snapshot is listed: %+v, %v", list, err)
			}
		})
	}
}

func TestForkRefused(t *testing.T) {
	b := setup(t)
	row := b.create()
	for _, count := range []int{0, -1, control.MaxForks + 1} {
		_, err := b.Fork(t.Context(), row.ID, control.Fork{Count: count})
		wantFault(t, err, fault.Invalid, "invalid_count")
	}
	_, err := b.Fork(t.Context(), row.ID, control.Fork{Count: 1, Metadata: map[string]string{"": "x"}})
	wantFault(t, err, fault.Invalid, "invalid_metadata")
	_, err = b.Fork(t.Context(), row.ID, control.Fork{Count: 1, Env: map[string]string{"": "x"}})
	wantFault(t, err, fault.Invalid, "invalid_env")
	_, err = b.Fork(t.Context(), "nosuch", control.Fork{Count: 1})
	wantFault(t, err, fault.NotFound, "sandbox_not_found")
	if err := b.Destroy(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	_, err = b.Fork(t.Context(), row.ID, control.Fork{Count: 1})
	wantFault(t, err, fault.WrongState, "sandbox_ended")
}

// TestForkNoCapacity: the host has room for 8, so the parent can have 7
// children, and of 8 none is begun.
func TestForkNoCapacity(t *testing.T) {
	b := setup(t)
	parent := b.create()
	_, err := b.Fork(t.Context(), parent.ID, control.Fork{Count: 8})
	wantFault(t, err, fault.NoCapacity, "no_capacity")
	if got := b.only(); got.ID != parent.ID {
		t.Errorf("a row is left: %+v", got)
	}
	b.wantNoSnapshots()
	if out, err := b.Fork(t.Context(), parent.ID, control.Fork{Count: 7}); err != nil || len(out.Sandboxes) != 7 {
		t.Errorf("%+v, %v", out, err)
	}
}

// failAt has the host refuse the n-th create from now on, counted from 1.
func (b *bundle) failAt(err error, which ...int) {
	var mu sync.Mutex
	n := 0
	b.host.script(true, "create", func(context.Context, sandbox.Ref) error {
		mu.Lock()
		defer mu.Unlock()
		n++
		for _, w := range which {
			if w == n {
				return err
			}
		}
		return nil
	})
}

func TestForkOneFails(t *testing.T) {
	b := setup(t)
	parent := b.create()
	b.failAt(fault.New(fault.NoCapacity, "no_memory", "the host is full"), 2)
	out, err := b.Fork(t.Context(), parent.ID, control.Fork{Count: 3})
	if err != nil || len(out.Sandboxes) != 2 || len(out.Failed) != 1 {
		t.Fatalf("%+v, %v", out, err)
	}
	wantFault(t, out.Failed[0].Err, fault.NoCapacity, "no_memory")
	b.want(out.Failed[0].ID, sandbox.Error, sandbox.ReasonBootFailed, "")
	b.wantNoSnapshots()
}

func TestForkAllFail(t *testing.T) {
	b := setup(t)
	parent := b.create()
	b.failAt(fault.New(fault.NoCapacity, "no_memory", "the host is full"), 1, 2)
	_, err := b.Fork(t.Context(), parent.ID, control.Fork{Count: 2})
	wantFault(t, err, fault.NoCapacity, "no_memory")
	b.wantNoSnapshots()
}

// TestForkChildUnknown: a child whose answer was lost is reconciled as in any create.
func TestForkChildUnknown(t *testing.T) {
	b := setup(t)
	parent := b.create()
	b.host.script(false, "create", lost)
	_, err := b.Fork(t.Context(), parent.ID, control.Fork{Count: 2})
	wantFault(t, err, fault.HostFailed, "outcome_unknown")
	b.reconcile()
	rows, _, err := b.List(t.Context(), control.Filter{Statuses: []sandbox.Status{sandbox.StatusRunning}})
	if err != nil || len(rows) != 3 {
		t.Errorf("%d run, %v, want 3", len(rows), err)
	}
}

func TestForkSnapshotFails(t *testing.T) {
	for reason, f := range map[string]hook{
		"disk_reserve": refuse(fault.New(fault.NoCapacity, "disk_reserve", "the disk is almost full")),
		"unreachable":  lost,
	} {
		t.Run(reason, func(t *testing.T) {
			b := setup(t)
			parent := b.create()
			b.host.script(true, "snapshot", f)
			_, err := b.Fork(t.Context(), parent.ID, control.Fork{Count: 2})
			if fault.ReasonOf(err) != reason {
				t.Errorf("%v, want %s", err, reason)
			}
			b.want(parent.ID, sandbox.Running, "", control.VMRunning)
			failed, _, err := b.List(t.Context(), control.Filter{Statuses: []sandbox.Status{sandbox.StatusError}})
			if err != nil || len(failed) != 2 {
				t.Errorf("%d rows say error, %v, want 2", len(failed), err)
			}
			b.wantNoSnapshots()
		})
	}
}

func TestForkOfLostVM(t *testing.T) {
	b := setup(t)
	parent := b.create()
	b.host.forget(parent.ID)
	_, err := b.Fork(t.Context(), parent.ID, control.Fork{Count: 1})
	wantFault(t, err, fault.WrongState, "sandbox_ended")
	b.want(parent.ID, sandbox.Stopped, sandbox.ReasonHostLost, "")
}

// TestForkLeavesSnapshot: one that could not be deleted goes with the next pass.
func TestForkLeavesSnapshot(t *testing.T) {
	b := setup(t)
	parent := b.create()
	b.host.script(true, "unsnapshot", lost)
	if _, err := b.Fork(t.Context(), parent.ID, control.Fork{Count: 1}); err != nil {
		t.Fatal(err)
	}
	if onHost, rows := b.left(); onHost != 1 || rows != 1 {
		t.Fatalf("%d on the host, %d rows", onHost, rows)
	}
	b.host.script(true, "unsnapshot", nil)
	b.reconcile()
	b.wantNoSnapshots()
}

// TestForkUnderWayIsLeftAlone: a pass takes neither the snapshot of a fork that
// continues, nor its children.
func TestForkUnderWayIsLeftAlone(t *testing.T) {
	b := setup(t, func(c *control.Config) { c.ForkTimeout, c.Grace = time.Hour, time.Hour })
	parent := b.create()
	g := newGate()
	b.host.script(true, "create", g.wait)
	done := make(chan error)
	go func() {
		_, err := b.Fork(t.Context(), parent.ID, control.Fork{Count: 1})
		done <- err
	}()
	<-g.entered
	b.reconcile()
	b.reconcile()
	if onHost, _ := b.left(); onHost != 1 {
		t.Error("the snapshot was taken from under a fork")
	}
	close(g.open)
	if err := <-done; err != nil {
		t.Error(err)
	}
	b.wantNoSnapshots()
}

// TestForkOfDeadControlPlane: the remains of a fork that was cut off are removed.
func TestForkOfDeadControlPlane(t *testing.T) {
	b := setup(t, func(c *control.Config) { c.ForkTimeout = time.Nanosecond })
	parent := b.create()
	snap := control.Snapshot{
		ID: "left", Kind: control.KindFork, Status: control.SnapshotCreating, Of: parent.Ref(), HostID: b.host.id, Spec: parent.Spec,
	}
	child := parent
	child.ID, child.State = sandbox.NewID(), sandbox.Pending
	if _, err := b.store.InsertFork(t.Context(), snap, []control.Sandbox{child}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.host.CreateSnapshot(t.Context(), parent.Ref(), snap.ID, control.KindFork); err != nil {
		t.Fatal(err)
	}
	b.reconcile() // sees it
	b.reconcile() // and again
	b.wantNoSnapshots()
	b.want(child.ID, sandbox.Error, sandbox.ReasonBootFailed, "")
}

// TestTrafficTokens: each sandbox has a token of its own, also the children of one fork.
func TestTrafficTokens(t *testing.T) {
	b := setup(t)
	parent := b.createWith(sandbox.Spec{PublicPorts: []int{80}})
	out, err := b.Fork(t.Context(), parent.ID, control.Fork{Count: 2})
	if err != nil || len(out.Sandboxes) != 2 {
		t.Fatalf("fork: %d children, %v", len(out.Sandboxes), err)
	}
	seen := make(map[string]bool)
	for _, row := range append(out.Sandboxes, parent) {
		for _, token := range []string{row.Spec.TrafficToken(row.ID), row.Spec.EnvdTokenOf(row.ID)} {
			if token == "" || seen[token] {
				t.Errorf("sandbox %s has the token %q, want one of its own", row.ID, token)
			}
			seen[token] = true
		}
		if got, want := b.host.vms[row.ID].Spec.EnvdToken, row.Spec.EnvdTokenOf(row.ID); got != want {
			t.Errorf("the host of sandbox %s got the token %q, want %q", row.ID, got, want)
		}
		if !row.Spec.Public(80) {
			t.Errorf("port 80 of sandbox %s is not public, want that of its parent", row.ID)
		}
	}
}
