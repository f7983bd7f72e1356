package control_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// patient makes no disagreement lasting in the time of a test.
func patient(c *control.Config) { c.Grace = time.Hour }

// cutOff are operations whose outcome stays unknown, and the state of each after
// one pass. The host has acted or not.
var cutOff = []struct {
	name  string
	acted bool
	state sandbox.State
	vm    control.VMState
}{
	{"create", false, sandbox.Error, ""},
	{"create", true, sandbox.Running, control.VMRunning},
	{"pause", false, sandbox.Running, control.VMRunning},
	{"pause", true, sandbox.Paused, control.VMPaused},
	{"resume", false, sandbox.Paused, control.VMPaused},
	{"resume", true, sandbox.Running, control.VMRunning},
	{"destroy", false, sandbox.Stopping, ""}, // the next pass sees it gone
	{"destroy", true, sandbox.Stopped, ""},
}

// cut has the answer of one operation lost and returns whose it was.
func (b *bundle) cut(op string, acted bool) sandbox.ID {
	b.t.Helper()
	id := sandbox.ID("")
	if op != "create" {
		id = b.create().ID
	}
	if op == "resume" {
		if _, err := b.Pause(b.t.Context(), id); err != nil {
			b.t.Fatal(err)
		}
	}
	b.host.script(!acted, op, lost)
	defer b.host.script(!acted, op, nil)
	var err error
	switch op {
	case "create":
		_, err = b.Create(b.t.Context(), control.NewSandbox{})
		id = b.only().ID
	case "pause":
		_, err = b.Pause(b.t.Context(), id)
	case "resume":
		_, err = b.Resume(b.t.Context(), id)
	case "destroy":
		err = b.Destroy(b.t.Context(), id)
	}
	if err == nil {
		b.t.Fatalf("%s: the lost answer was no error", op)
	}
	return id
}

// wantState checks row and VM, without the reason of an end.
func (b *bundle) wantState(id sandbox.ID, state sandbox.State, vm control.VMState) {
	b.t.Helper()
	row, err := b.Get(b.t.Context(), id)
	if err != nil || row.State != state || b.host.has(id) != vm {
		b.t.Errorf("row %s, %v, and VM %q; want %s and %q", row.State, err, b.host.has(id), state, vm)
	}
}

// TestOwnOperationThatIsOver: a server knows when its own operations have ended,
// so that the first pass takes the host's word, for any grace period.
func TestOwnOperationThatIsOver(t *testing.T) {
	for _, c := range cutOff {
		t.Run(c.name+map[bool]string{true: " acted"}[c.acted], func(t *testing.T) {
			b := setup(t, patient)
			id := b.cut(c.name, c.acted)
			b.reconcile()
			b.wantState(id, c.state, c.vm)
		})
	}
}

// TestCallerInVainIsNoOperation: a pass that falls into a resume which finds the
// row in the wrong state takes the host's word all the same. A client that asks
// again and again would otherwise keep the row from being brought into agreement.
func TestCallerInVainIsNoOperation(t *testing.T) {
	b := setup(t, patient)
	id := b.cut("resume", false)
	b.store.onGet = b.reconcile
	_, err := b.Resume(t.Context(), id)
	wantFault(t, err, fault.WrongState, "sandbox_not_paused")
	b.wantState(id, sandbox.Paused, control.VMPaused)
}

// TestOperationThatBeginsInAPass: a create that inserts its row while a pass
// reads the rows is under way.
func TestOperationThatBeginsInAPass(t *testing.T) {
	b := setup(t, patient)
	g := newGate()
	b.host.script(true, "create", g.wait)
	created := make(chan error, 1)
	b.store.onUnended = func() {
		go func() { _, err := b.Create(t.Context(), control.NewSandbox{}); created <- err }()
		<-g.entered
	}
	b.reconcile()
	close(g.open)
	if err := <-created; err != nil {
		t.Errorf("the create that began in a pass failed: %v", err)
	}
}

// TestOperationOfAnEndedServer: another server takes over the first time it
// looks, once the server that began the operation has ended; before, it leaves
// the row alone.
func TestOperationOfAnEndedServer(t *testing.T) {
	for _, c := range cutOff {
		t.Run(c.name+map[bool]string{true: " acted"}[c.acted], func(t *testing.T) {
			b := setup(t, patient)
			other, err := control.New(control.DefaultConfig(), b.store, newFakeFleet(b.host), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			end := b.present()
			id := b.cut(c.name, c.acted)
			before, err := b.Get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			pass := other.Reconciler(b.host.id)
			if err := pass(t.Context()); err != nil {
				t.Fatal(err)
			}
			// An end that the host vouches for is taken at once all the same.
			now, err := b.Get(t.Context(), id)
			if err != nil || now.State != before.State && !c.acted {
				t.Errorf("beside its living server the row went from %s to %s, %v", before.State, now.State, err)
			}
			end()
			if err := pass(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.wantState(id, c.state, c.vm)
		})
	}
}

// present shows that b's server lives until the function it returns is called.
func (b *bundle) present() (end func()) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	held, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- b.store.HoldServer(ctx, b.ServerID(), func() { close(held) }) }()
	select {
	case <-held:
	case err := <-ended:
		b.t.Fatal(err)
	}
	return func() {
		b.t.Helper()
		cancel()
		<-ended
		// The database learns of it a moment later.
		for live := []control.ServerID{0}; len(live) > 0; {
			var err error
			if live, err = b.store.LiveServers(b.t.Context(), []control.ServerID{b.ServerID()}); err != nil {
				b.t.Fatal(err)
			}
		}
	}
}

// TestBusyHostIsWaitedFor: an operation continues at the host after its server has
// ended; the row follows when it is over.
func TestBusyHostIsWaitedFor(t *testing.T) {
	b := setup(t, patient)
	id := b.cut("pause", false)
	row, err := b.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	b.host.put(control.ObservedSandbox{Ref: row.Ref(), State: control.VMRunning, Busy: true})
	b.reconcile()
	b.wantState(id, sandbox.Pausing, control.VMRunning)
	b.host.put(control.ObservedSandbox{Ref: row.Ref(), State: control.VMRunning})
	b.reconcile()
	b.wantState(id, sandbox.Running, control.VMRunning)
}

// TestOwnOperationUnderWay: a pass leaves operations of this process alone.
func TestOwnOperationUnderWay(t *testing.T) {
	b := setup(t, patient)
	row := b.create()
	g := newGate()
	b.host.script(true, "pause", g.wait)
	done := make(chan error, 1)
	go func() {
		_, err := b.Pause(t.Context(), row.ID)
		done <- err
	}()
	<-g.entered
	b.reconcile()
	b.wantState(row.ID, sandbox.Pausing, control.VMRunning)
	close(g.open)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	b.wantState(row.ID, sandbox.Paused, control.VMPaused)
}

// TestLoopTakesUpWhatWasCutOff: the loop is woken by the end of an operation
// whose outcome is unknown, and by an event; neither waits for its interval.
func TestLoopTakesUpWhatWasCutOff(t *testing.T) {
	b := setup(t, patient, func(c *control.Config) { c.ReconcileInterval = time.Hour })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx, func() {}) }()
	defer func() { cancel(); <-ended }()
	id := b.cut("pause", false)
	for m := range b.store.moves {
		if m.Ref.ID == id && m.From == sandbox.Pausing {
			break
		}
	}
	b.wantState(id, sandbox.Running, control.VMRunning)
}

// TestLoopTakesUpWhatTheHostFailed: an operation that the host has refused by
// being down leaves its row in between. The end of the operation asks for a pass of the
// loop, since no event of the host does.
func TestLoopTakesUpWhatTheHostFailed(t *testing.T) {
	b := setup(t, patient, func(c *control.Config) { c.ReconcileInterval = time.Hour })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx, func() {}) }()
	defer func() { cancel(); <-ended }()
	id := b.create().ID
	// Without setDown the event stream stays as it is.
	down := func(is bool) {
		b.host.mu.Lock()
		defer b.host.mu.Unlock()
		b.host.down = is
	}
	b.host.script(true, "pause", func(context.Context, sandbox.Ref) error { down(true); return errDown })
	_, err := b.Pause(t.Context(), id)
	wantFault(t, err, fault.HostFailed, "host_unreachable")
	down(false)
	for m := range b.store.moves {
		if m.Ref.ID == id && m.From == sandbox.Pausing {
			break
		}
	}
	b.wantState(id, sandbox.Running, control.VMRunning)
}

// TestCreateWhoseRowWasLost: a crash of the database may take back the row of a
// sandbox that is being created. Then the VM goes too.
func TestCreateWhoseRowWasLost(t *testing.T) {
	b := setup(t)
	var id sandbox.ID
	b.host.script(false, "create", func(ctx context.Context, ref sandbox.Ref) error {
		id = ref.ID
		return b.loseRow(ctx, ref.ID)
	})
	_, err := b.Create(t.Context(), control.NewSandbox{})
	wantFault(t, err, fault.Unavailable, "create_lost")
	if b.host.has(id) != "" {
		t.Error("the VM of a row that is lost was left")
	}
}

// loseRow leaves no row of a pending sandbox.
func (b *bundle) loseRow(ctx context.Context, id sandbox.ID) error {
	_, _, err := b.store.Store.Move(ctx, control.Move{
		Ref: sandbox.Ref{ID: id, Generation: 1}, From: sandbox.Pending, To: sandbox.Error, StopReason: sandbox.ReasonBootFailed,
	})
	if err != nil {
		return err
	}
	_, err = b.store.DeleteEnded(ctx, 0, 1)
	return err
}
