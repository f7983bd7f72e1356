package host

import (
	"context"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// request is one entry of the mailbox.
type request struct {
	op     string
	ref    sandbox.Ref
	reason sandbox.StopReason // of journal.OpDestroy
	// force lets journal.OpPause and journal.OpSnapshot do without the guest's help.
	force bool
	// diskOnly lets journal.OpPause keep nothing but the disk, and reboot lets
	// journal.OpResume boot from the disk of a pause. use: journal.OpResume must not boot.
	diskOnly, reboot, use bool
	// interrupted: this journal.OpDestroy is counted in destroys.
	interrupted bool
	// Of journal.OpSnapshot, journal.OpTimeouts, journal.OpEgress and journal.OpStart.
	snapshot *snapshotRequest
	timeouts *Timeouts
	egress   *sandbox.Egress
	start    *sandbox.StartCommand
	reply    chan error
}

// errMachineGone is the answer to requests to a sandbox that no longer exists,
// because a destroy came before them.
var errMachineGone = fault.New(fault.NotFound, "sandbox_not_found", "the sandbox has been destroyed")

// ask hands r to the goroutine and waits for the outcome. If ctx ends first, the
// operation continues and its outcome is unknown to the caller.
func (m *machine) ask(ctx context.Context, r request) error {
	r.reply = make(chan error, 1)
	m.requests.Add(1)
	select {
	case m.inbox <- r:
	case <-m.gone:
		m.requests.Add(-1)
		return errMachineGone
	case <-ctx.Done():
		m.requests.Add(-1)
		return context.Cause(ctx)
	}
	select {
	case err := <-r.reply:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-m.gone:
		select {
		case err := <-r.reply:
			return err
		default:
			return errMachineGone
		}
	}
}

// askDestroy asks for the end of the sandbox. It interrupts a boot, pause,
// snapshot or resume under way, which then relies on the destroy. The destroy
// therefore continues when ctx ends, like one that was handed over.
func (m *machine) askDestroy(ctx context.Context, r request) error {
	if !m.interrupt(r.ref) {
		return m.ask(ctx, r)
	}
	r.interrupted = true
	done := make(chan error, 1)
	go func() { // ends with the machine's goroutine
		done <- fault.Caught(func() error { return m.ask(context.WithoutCancel(ctx), r) })
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// interruptible returns a context that Destroy cancels, and its end.
func (m *machine) interruptible(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.destroys > 0 {
		cancel(errDestroyed())
	}
	m.cancelOp = cancel
	return ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.cancelOp = nil
		cancel(nil)
	}
}

// interrupt cancels the interruptible operation under way and counts a destroy
// that waits. It reports false, and does nothing, where the destroy will be
// refused as stale.
func (m *machine) interrupt(ref sandbox.Ref) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ref.Generation < m.view.Ref.Generation {
		return false
	}
	m.destroys++
	if m.cancelOp != nil {
		m.cancelOp(errDestroyed())
	}
	return true
}

// endInterrupt ends the count of a destroy whose turn has come. If that destroy is
// refused, later operations run as before.
func (m *machine) endInterrupt() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.destroys--
}

// beingDestroyed reports whether a destroy waits for its turn.
func (m *machine) beingDestroyed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.destroys > 0
}

func errDestroyed() error {
	return fault.New(fault.WrongState, reasonStopped, "the sandbox is being destroyed")
}
