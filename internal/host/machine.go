package host

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// machine is one sandbox on this host: the actor that owns its body, serves its
// mailbox and lends out its guest.
//
// Invariants: run's goroutine alone uses the body, and alone moves the state;
// resources that the record names may exist, and every resource that exists is
// named by the record or found by its place; a lease exists only while the gate
// is open or closeGate waits for it.
type machine struct {
	// body is owned by the goroutine of run. Its Instance is replaced under mu,
	// because other goroutines read the guest's client there under mu.
	body

	// Constant after construction.
	inbox  chan request
	gone   chan struct{} // closed when the goroutine has ended
	booted chan struct{} // closed when create or the recovery has ended
	// bootErr is how create ended; valid once booted is closed.
	bootErr error
	// requests counts those that were handed over, or wait for that, and have
	// not been handled.
	requests atomic.Int64

	// notBefore keeps a pause on timeout that has failed from being tried again
	// at once. The goroutine of run owns it.
	notBefore time.Time

	mu         sync.Mutex // protects the following
	view       Sandbox
	gateOpen   bool
	leases     map[*lease]struct{}
	drained    chan struct{} // closed when the last lease goes, while closeGate waits
	lastActive time.Time
	cancelOp   context.CancelCauseFunc // of an operation that Destroy may interrupt
	destroys   int                     // destroys that have interrupted and wait for their turn
	diskFull   bool                    // the guest is stopped; only run's goroutine writes it
	health     health
	ended      []*guestv1.ProcessRecord // of the processes that boots have ended
}

func newMachine(mgr *Manager, rec journal.Record) *machine {
	m := &machine{
		body:  newBody(mgr, mgr.layout.machine(string(rec.ID)), rec),
		inbox: make(chan request), gone: make(chan struct{}), booted: make(chan struct{}),
		leases: make(map[*lease]struct{}),
	}
	m.view = Sandbox{Ref: rec.Ref(), Spec: rec.Spec, State: rec.State, diskPath: m.Dir.Disk()}
	return m
}

// run is the sandbox's goroutine. It calls first, then serves the mailbox until
// nothing of the sandbox is left or life ends.
func (m *machine) run(life context.Context, first func(context.Context)) {
	defer close(m.gone)
	defer m.detach()
	_ = m.act(life, "start", func() error { first(life); return nil })
	for life.Err() == nil {
		alarm, stop := m.alarm()
		again, stopAgain := m.retryFull()
		select {
		case r := <-m.inbox:
			err := m.act(life, r.op, func() error { return m.handle(life, r) })
			m.requests.Add(-1)
			r.reply <- err
			if err == nil && r.op == journal.OpDestroy {
				stop()
				stopAgain()
				return
			}
		case <-m.stalled():
			_ = m.act(life, "stalled", func() error { m.stall(life); return nil })
		case <-again:
			_ = m.act(life, "again", func() error { m.tryAgain(life); return nil })
		case <-m.exited():
			_ = m.act(life, "exited", func() error { m.onExit(life); return nil })
		case <-alarm:
			_ = m.act(life, "alarm", func() error { m.onAlarm(life); return nil })
		case <-life.Done():
		}
		stop()
		stopAgain()
	}
}

// act runs one operation. A panic in it ends the operation alone: act returns it
// as an error, and the sandbox returns to its last state.
func (m *machine) act(life context.Context, op string, do func() error) error {
	m.setActing(true)
	defer m.setActing(false)
	err := fault.Caught(do)
	if fault.ReasonOf(err) != reasonPanic {
		return err
	}
	m.log.ErrorContext(life, "an operation panicked", "op", op, "step", m.rec.Step, "error", err)
	if again := fault.Caught(func() error { m.afterPanic(life, err); return nil }); again != nil {
		m.log.ErrorContext(life, "the sandbox could not be brought back to its last state after a panic", "op", op, "error", again)
	}
	return err
}

func (m *machine) setActing(acting bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.health.acting = acting
	if acting {
		m.health.acts++
	}
}

// reasonPanic is the reason of the fault that fault.Caught returns for a panic.
const reasonPanic = "panic"

// afterPanic brings the sandbox back to a committed state after an operation that
// panicked outside of its steps.
func (m *machine) afterPanic(ctx context.Context, cause error) {
	switch {
	case m.halfFreed() || m.rec.State == sandbox.Stopped || ctx.Err() != nil:
		return // a teardown is tried again by the alarm
	case m.rec.State == sandbox.Paused && m.rec.Op == journal.OpResume:
		_ = m.resumeCut(ctx, ctx, m.rec.Generation, cause)
	case m.rec.State == sandbox.Paused && m.rec.Op != "":
		_ = m.abandonResume(ctx, cause)
	case m.rec.State == sandbox.Running && m.VM != nil:
		_ = m.abandonPause(ctx, cause)
	case m.rec.State == sandbox.Pending:
		m.finish(ctx, sandbox.ReasonBootFailed, "the host agent failed while the sandbox was starting")
	}
}

// detach ends this agent's hold on a VM that outlives it.
func (m *machine) detach() {
	m.shutGate()
	m.DropGuest()
	if m.VM != nil {
		m.VM.Detach()
	}
}

// exited returns a channel that is closed when the VM ends. It is nil, which
// blocks, if there is no VM, it is being freed, or the sandbox is paused.
func (m *machine) exited() <-chan struct{} {
	if m.VM == nil || m.rec.State != sandbox.Running || m.halfFreed() {
		return nil
	}
	return m.VM.Exited()
}

func (m *machine) handle(ctx context.Context, r request) error {
	if r.interrupted {
		m.endInterrupt()
	}
	if err := m.checkRef(r); err != nil {
		return err
	}
	if err := m.refuseEnded(r.op); err != nil {
		return err
	}
	var err error
	switch r.op {
	case journal.OpPause:
		err = m.pause(ctx, r.force, r.diskOnly)
	case journal.OpRenew:
		err = m.renewLate(ctx)
	case journal.OpResume:
		err = m.resume(ctx, r.ref.Generation, r.reboot, r.use)
	case journal.OpDestroy:
		err = m.destroy(ctx, r.reason)
	case journal.OpSnapshot:
		err = m.snapshot(ctx, r.snapshot, r.force)
	case journal.OpTimeouts:
		err = m.setTimeouts(r.timeouts)
	case journal.OpEgress:
		err = m.setEgress(ctx, *r.egress)
	case journal.OpStart:
		err = m.keepStart(r.start)
	default:
		err = fault.New(fault.Internal, "internal", "unknown operation %q", r.op)
	}
	if err != nil {
		m.log.WarnContext(ctx, "operation failed", "op", r.op, "step", m.rec.Step, "error", err)
	}
	return err
}

// refuseEnded refuses every operation but destroy on a sandbox whose VM is gone,
// even if not all of its parts are freed yet.
func (m *machine) refuseEnded(op string) error {
	gone := m.rec.State == sandbox.Stopped || m.halfFreed() || m.rec.State == sandbox.Running && m.VM == nil
	if op == journal.OpDestroy || !gone {
		return nil
	}
	return errEnded(m.rec.StopReason)
}

func errEnded(reason sandbox.StopReason) error {
	return fault.New(fault.WrongState, reasonStopped, "the sandbox has ended (%s)", reason)
}

// checkRef refuses requests for an earlier generation. Only a resume, a destroy and
// requests about a paused sandbox may name a later one, because the control plane
// increments the generation before it requests a resume, and that request may have
// been lost or have failed.
func (m *machine) checkRef(r request) error {
	known := m.rec.Ref()
	later := r.op == journal.OpResume || r.op == journal.OpDestroy ||
		m.rec.State == sandbox.Paused && (r.op == journal.OpSnapshot || r.op == journal.OpTimeouts || r.op == journal.OpEgress)
	if r.ref.Generation < known.Generation || r.ref.Generation > known.Generation && !later {
		return errStale(r.ref, known)
	}
	return nil
}

// onExit handles the end of a VM that nobody requested.
func (m *machine) onExit(ctx context.Context) {
	m.begin(journal.OpDestroy)
	exit := m.VM.Exit()
	reason := sandbox.ReasonVMMCrash
	switch {
	case exit.Cause == vmm.CauseGuestShutdown:
		reason = sandbox.ReasonGuestExit
	case exit.Cause == vmm.CauseGuestReset:
		reason = sandbox.ReasonGuestCrash
	case exit.Cause == vmm.CauseMemory, m.Group != nil && m.Group.OOMKilled():
		reason = sandbox.ReasonOOM
	}
	m.log.WarnContext(ctx, "VM ended", "reason", reason, "detail", exit.Detail)
	m.finish(ctx, reason, exit.Detail)
}
