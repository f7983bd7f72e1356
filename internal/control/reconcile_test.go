package control_test

import (
	"context"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestReconcileEnds has VMs end in every way, and the host forget them once it
// is known.
func TestReconcileEnds(t *testing.T) {
	b := setup(t)
	for _, reason := range []sandbox.StopReason{
		sandbox.ReasonExpired, sandbox.ReasonGuestExit, sandbox.ReasonGuestCrash, sandbox.ReasonOOM, sandbox.ReasonVMMCrash,
	} {
		row := b.create()
		b.host.put(control.ObservedSandbox{Ref: row.Ref(), State: control.VMStopped, StopReason: reason})
		b.reconcile()
		b.want(row.ID, sandbox.Stopped, reason, control.VMStopped)
		b.reconcile()
		b.want(row.ID, sandbox.Stopped, reason, "")
	}
	row := b.create()
	b.host.forget(row.ID)
	b.reconcile()
	b.want(row.ID, sandbox.Stopped, sandbox.ReasonHostLost, "")
}

func TestReconcileDrain(t *testing.T) {
	b := setup(t)
	row := b.create()
	b.host.put(control.ObservedSandbox{Ref: row.Ref(), State: control.VMPaused})
	b.reconcile()
	b.want(row.ID, sandbox.Paused, "", control.VMPaused)
}

// TestReconcileSuperfluous has VMs on the host that should not be there.
func TestReconcileSuperfluous(t *testing.T) {
	b := setup(t)
	row := b.create()
	if err := b.Destroy(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	b.host.put(control.ObservedSandbox{Ref: row.Ref(), State: control.VMRunning})
	b.host.put(control.ObservedSandbox{Ref: sandbox.Ref{ID: "stranger", Generation: 1}, State: control.VMPaused})
	b.reconcile()
	b.want(row.ID, sandbox.Stopped, sandbox.ReasonDestroyed, "")
	if b.host.has("stranger") != "" {
		t.Error("a VM without a row was left")
	}

	old := b.create()
	if _, err := b.Pause(t.Context(), old.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Resume(t.Context(), old.ID); err != nil {
		t.Fatal(err)
	}
	b.host.put(control.ObservedSandbox{Ref: old.Ref(), State: control.VMRunning})
	b.reconcile()
	if b.host.has(old.ID) != "" {
		t.Error("a VM of an old generation was left")
	}
}

func TestReconcileGrace(t *testing.T) {
	b := setup(t, func(c *control.Config) { c.Grace = time.Hour })
	row := b.create()
	b.host.forget(row.ID)
	b.host.put(control.ObservedSandbox{Ref: sandbox.Ref{ID: "stranger", Generation: 1}, State: control.VMRunning})
	b.reconcile()
	b.reconcile()
	b.want(row.ID, sandbox.Running, "", "")
	if b.host.has("stranger") == "" {
		t.Error("a VM without a row had no grace")
	}
}

func TestReconcileHostDown(t *testing.T) {
	b := setup(t)
	row := b.create()
	b.host.setDown(true)
	wantFault(t, b.pass(t.Context()), fault.HostFailed, "host_unreachable")
	b.want(row.ID, sandbox.Running, "", control.VMRunning)
	hosts, err := b.Hosts(t.Context())
	if err != nil || hosts[0].Reachable || hosts[0].VCPUs == 0 {
		t.Errorf("%+v, %v", hosts, err)
	}
}

func TestReconcileNotesActivity(t *testing.T) {
	b := setup(t)
	row := b.create()
	at := time.Now().Add(time.Minute).UTC().Truncate(time.Microsecond)
	b.host.put(control.ObservedSandbox{Ref: row.Ref(), State: control.VMRunning, LastActiveAt: at})
	b.reconcile()
	if err := b.FlushActivity(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := b.only().LastActiveAt; got == nil || !got.Equal(at) {
		t.Errorf("last active %v, want %v", got, at)
	}
}

func TestRetention(t *testing.T) {
	b := setup(t, func(c *control.Config) { c.Retention = 0 })
	row, kept := b.create(), b.create()
	if err := b.Destroy(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	if err := b.DeleteEnded(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := b.Get(t.Context(), row.ID)
	wantFault(t, err, fault.NotFound, "sandbox_not_found")
	b.want(kept.ID, sandbox.Running, "", control.VMRunning)
}

// TestRun has the loops learn of an end by an event, survive a host that goes
// down and comes back, and end.
func TestRun(t *testing.T) {
	// With a grace, because creates are under way while passes run; the awaited
	// changes need none.
	b := setup(t, func(c *control.Config) { c.ReconcileInterval, c.Grace = time.Hour, time.Hour })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- b.Run(ctx, func() {}) }()
	row, second := b.create(), b.create()
	b.host.put(control.ObservedSandbox{Ref: row.Ref(), State: control.VMStopped, StopReason: sandbox.ReasonExpired})
	b.awaitMove(row.ID, sandbox.Stopped)

	b.host.setDown(true)
	b.host.put(control.ObservedSandbox{Ref: second.Ref(), State: control.VMStopped, StopReason: sandbox.ReasonOOM})
	b.host.setDown(false) // the stream opens again, and a pass sees the missed event
	b.awaitMove(second.ID, sandbox.Stopped)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func (b *bundle) awaitMove(id sandbox.ID, to sandbox.State) {
	b.t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case m := <-b.store.moves:
			if m.Ref.ID == id && m.To == to {
				return
			}
		case <-timeout:
			b.t.Fatalf("%s did not become %s", id, to)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := control.New(control.DefaultConfig(), nil, nil, nil); err == nil {
		t.Error("New without dependencies succeeds")
	}
	if err := (control.Config{}).Validate(); !fault.Is(err, fault.Invalid) {
		t.Errorf("an empty Config: %v", err)
	}
}
