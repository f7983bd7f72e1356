package control

import (
	"context"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// transition is a pause or a resume. The row moves from the state from to via,
// stays there while the host works, and then moves to the state to.
type transition struct {
	from, via, to sandbox.State
	timeout       time.Duration
	command       func(Host, context.Context, sandbox.Ref) (View, error)
}

// Pause implements Sandboxes.
func (s *Service) Pause(ctx context.Context, id sandbox.ID) (Sandbox, error) {
	return s.pauseBy(ctx, id, Host.Pause)
}

// ForcePause implements Sandboxes.
func (s *Service) ForcePause(ctx context.Context, id sandbox.ID) (Sandbox, error) {
	return s.pauseBy(ctx, id, Host.ForcePause)
}

func (s *Service) pauseBy(ctx context.Context, id sandbox.ID, command func(Host, context.Context, sandbox.Ref) (View, error)) (Sandbox, error) {
	return s.runTransition(ctx, id, transition{
		from: sandbox.Running, via: sandbox.Pausing, to: sandbox.Paused,
		timeout: s.cfg.PauseTimeout, command: command,
	})
}

// Resume implements Sandboxes. The new incarnation takes the capacity that the
// pause gave back; NoCapacity leaves the sandbox paused.
func (s *Service) Resume(ctx context.Context, id sandbox.ID) (Sandbox, error) {
	return s.runTransition(ctx, id, s.resumption())
}

func (s *Service) resumption() transition {
	return transition{
		from: sandbox.Paused, via: sandbox.Resuming, to: sandbox.Running,
		timeout: s.cfg.ResumeTimeout, command: Host.Resume,
	}
}

// runTransition performs t and publishes its outcome to waiters in this process.
func (s *Service) runTransition(ctx context.Context, id sandbox.ID, t transition) (Sandbox, error) {
	pending, mine := s.transitions.begin(id, t.to)
	if !mine {
		return s.performTransition(ctx, id, t) // it loses the compare-and-set, unless the other has just ended
	}
	return s.runTransitionAs(ctx, id, t, pending)
}

// runTransitionAs performs t and publishes its outcome through pending.
func (s *Service) runTransitionAs(ctx context.Context, id sandbox.ID, t transition, pending *pendingTransition) (row Sandbox, err error) {
	err = fault.New(fault.Internal, "internal", "the operation broke off")
	defer func() { s.transitions.end(id, pending, row, err) }() // also after a panic, because waiters would never return
	row, err = s.performTransition(ctx, id, t)
	return row, err
}

// performTransition completes t even if the caller hangs up, see detached. The
// compare-and-set lets one of two concurrent transitions through. The other one
// fails with WrongState.
func (s *Service) performTransition(ctx context.Context, id sandbox.ID, t transition) (row Sandbox, err error) {
	ctx, cancel := s.detached(ctx, t.timeout)
	defer cancel()
	var hostID string
	defer func() { s.operated(hostID, err) }()
	row, err = s.store.Get(ctx, id)
	if err != nil {
		return Sandbox{}, err
	}
	if row.State != t.from {
		return Sandbox{}, wrongState(row, t.from.Status())
	}
	host, err := s.hostOf(row)
	if err != nil {
		return Sandbox{}, err
	}
	hostID = row.HostID
	// Only from here on: a caller that tries in vain again and again must not
	// look like an operation that explains the row's state.
	defer s.underway.begin(id)()
	row, won, err := s.move(ctx, Move{Ref: row.Ref(), From: t.from, To: t.via})
	if err != nil {
		return Sandbox{}, err
	}
	if !won {
		return Sandbox{}, wrongState(row, t.from.Status())
	}
	hostCtx, cancelHost := context.WithTimeout(ctx, t.timeout)
	defer cancelHost()
	view, err := t.command(host, hostCtx, row.Ref())
	switch {
	case err == nil:
		return s.commitTransition(ctx, row, view, t)
	case OutcomeUnknown(err):
		return Sandbox{}, s.orEnded(ctx, row, beingSettled(row, err))
	default:
		return Sandbox{}, s.explainFailedTransition(ctx, host, row, err)
	}
}

// commitTransition writes the host's success to the row.
func (s *Service) commitTransition(ctx context.Context, row Sandbox, view View, t transition) (Sandbox, error) {
	m := Move{Ref: row.Ref(), From: t.via, To: t.to}
	if t.to == sandbox.Running {
		m.Facts = &view.Facts
	}
	s.healths.note(view)
	now, won, err := s.move(ctx, m)
	if err != nil {
		return Sandbox{}, err
	}
	if won || now.State == t.to {
		return s.healths.over(now), nil // or the reconciler came first
	}
	return Sandbox{}, wrongState(now, t.from.Status())
}

// explainFailedTransition returns the error for the caller of a transition that
// the host refused or failed. It reconciles the row first. If another caller ended
// the sandbox meanwhile, the error says so; an end that the failure itself caused
// is a failure of the host.
func (s *Service) explainFailedTransition(ctx context.Context, host Host, row Sandbox, cause error) error {
	now, err := s.reconcileNow(ctx, host, row)
	ended := now.State == sandbox.Stopping || now.StopReason == sandbox.ReasonDestroyed ||
		now.StopReason == sandbox.ReasonExpired || over(now) && stateForbids(cause)
	if err == nil && ended {
		return wrongState(now, row.State.Status())
	}
	if err != nil && stateForbids(cause) {
		return withCleanup(s.orEnded(ctx, row, hostFault(cause)), err)
	}
	return withCleanup(hostFault(cause), err)
}
