package control

import (
	"context"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// transition is one of the two moves between running and paused: the row goes
// from, then via while the host works, then to.
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
	return s.transit(ctx, id, transition{
		from: sandbox.Running, via: sandbox.Pausing, to: sandbox.Paused,
		timeout: s.cfg.PauseTimeout, command: command,
	})
}

// Resume implements Sandboxes. The new incarnation takes the capacity that the
// pause gave back; NoCapacity leaves the sandbox paused.
func (s *Service) Resume(ctx context.Context, id sandbox.ID) (Sandbox, error) {
	return s.transit(ctx, id, s.resumption())
}

func (s *Service) resumption() transition {
	return transition{
		from: sandbox.Paused, via: sandbox.Resuming, to: sandbox.Running,
		timeout: s.cfg.ResumeTimeout, command: Host.Resume,
	}
}

// transit does t, and tells those in this process who wait for it.
func (s *Service) transit(ctx context.Context, id sandbox.ID, t transition) (Sandbox, error) {
	mo, mine := s.motions.begin(id, t.to)
	if !mine {
		return s.transitAlone(ctx, id, t) // which loses, unless the other is just over
	}
	return s.transitAs(ctx, id, t, mo)
}

// transitAs does t as the motion mo, which it ends.
func (s *Service) transitAs(ctx context.Context, id sandbox.ID, t transition, mo *motion) (row Sandbox, err error) {
	err = fault.New(fault.Internal, "internal", "the operation broke off")
	defer func() { s.motions.end(id, mo, row, err) }() // also after a panic, or they would wait for ever
	row, err = s.transitAlone(ctx, id, t)
	return row, err
}

// transitAlone does t to its end even if the caller hangs up, see detached. Of
// two at once the compare-and-set lets one through; the other is told
// WrongState.
func (s *Service) transitAlone(ctx context.Context, id sandbox.ID, t transition) (row Sandbox, err error) {
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
		return s.transited(ctx, row, view, t)
	case OutcomeUnknown(err):
		return Sandbox{}, s.orEnded(ctx, row, beingSettled(row, err))
	default:
		return Sandbox{}, s.transitFailed(ctx, host, row, err)
	}
}

// transited records that the host has done it.
func (s *Service) transited(ctx context.Context, row Sandbox, view View, t transition) (Sandbox, error) {
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

// transitFailed finds out what became of the sandbox after the host refused or
// failed, and returns what to tell the caller: that somebody ended it
// meanwhile, or that the host failed. A sandbox that the failure itself ended
// is a failure of the host.
func (s *Service) transitFailed(ctx context.Context, host Host, row Sandbox, cause error) error {
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
