package control

import (
	"context"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// SetTimeouts implements Clocks. The row is written first, by compare-and-set;
// then the host is told.
func (s *Service) SetTimeouts(ctx context.Context, id sandbox.ID, c ClockRequest) (Sandbox, error) {
	ctx, cancel := s.detached(ctx, s.cfg.AskTimeout)
	defer cancel()
	was, row, err := s.writeClocks(ctx, id, c)
	if err != nil {
		return Sandbox{}, err
	}
	change := timeoutsOf(row.Spec).changeFrom(timeoutsOf(was.Spec))
	if c.Lifetime != nil || c.Extend != nil {
		change.Lifetime = &row.Spec.Lifetime // it begins anew even where its length is the same
	}
	if change == (TimeoutChange{}) {
		return row, nil
	}
	return s.tellClocks(ctx, row, change)
}

// writeClocks makes the change that c asks for in the row, and returns the row
// before and after it. It tries again after a concurrent change. Each retry means
// that another change succeeded, so the loop ends.
func (s *Service) writeClocks(ctx context.Context, id sandbox.ID, c ClockRequest) (was, row Sandbox, err error) {
	was, err = s.store.Get(ctx, id)
	for err == nil {
		if was.State.Ended() || was.State == sandbox.Stopping {
			return was, row, wrongState(was, sandbox.StatusRunning)
		}
		change, err := c.apply(was, time.Now())
		if err != nil {
			return was, row, err
		}
		row, won, err := s.store.SetClocks(ctx, change)
		if err != nil || won {
			return was, row, err
		}
		was = row
	}
	return was, row, err
}

// tellClocks has row's host change its clocks.
func (s *Service) tellClocks(ctx context.Context, row Sandbox, change TimeoutChange) (Sandbox, error) {
	host, err := s.hostOf(row)
	if err != nil {
		return Sandbox{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.AskTimeout)
	defer cancel()
	view, err := host.SetTimeouts(ctx, row.Ref(), change)
	if err != nil {
		return Sandbox{}, s.orEnded(ctx, row, fault.Wrap(err, fault.HostFailed, "clocks_pending",
			"the host did not confirm the new clocks; they hold as soon as it answers"))
	}
	if view.State != ViewRunning || view.Ref != row.Ref() {
		return row, nil
	}
	if err := s.store.Learn(ctx, view); err != nil {
		return Sandbox{}, err
	}
	return s.store.Get(ctx, row.ID)
}

// apply returns the change of row that c asks for. It is pure. A lifetime that
// runs is kept as its end; the stored and sent value is the time left until then.
func (c ClockRequest) apply(row Sandbox, now time.Time) (ClockChange, error) {
	spec, endsAt := c.Over(row.Spec), row.LifetimeEndsAt
	if c.Extend != nil {
		var err error
		if spec.Lifetime, err = c.extended(row, now); err != nil {
			return ClockChange{}, err
		}
	}
	if err := spec.Validate(); err != nil {
		return ClockChange{}, err
	}
	if c.Lifetime != nil || c.Extend != nil {
		endsAt = nil
		if spec.Lifetime > 0 && row.State == sandbox.Running {
			end := now.Add(spec.Lifetime).UTC().Truncate(time.Microsecond)
			endsAt = &end
		}
	}
	return ClockChange{Was: row, Timeouts: timeoutsOf(spec), AutoResume: spec.AutoResume, LifetimeEndsAt: endsAt}, nil
}

// Over returns spec with the clocks that c gives; Extend is not one of them.
func (c ClockRequest) Over(spec sandbox.Spec) sandbox.Spec {
	if c.Idle != nil {
		spec.Timeout = *c.Idle
	}
	if c.Lifetime != nil {
		spec.Lifetime = *c.Lifetime
	}
	if c.OnTimeout != nil {
		spec.OnTimeout = *c.OnTimeout
	}
	if c.AutoResume != nil {
		spec.AutoResume = *c.AutoResume
	}
	return spec
}

// extended returns the lifetime from now on that moves its end later, in whole
// seconds. One that does not run is longer by so much when it starts.
func (c ClockRequest) extended(row Sandbox, now time.Time) (time.Duration, error) {
	switch {
	case c.Lifetime != nil:
		return 0, fault.New(fault.Invalid, "invalid_lifetime", "give lifetime_sec or extend_sec, not both")
	case *c.Extend <= 0 || *c.Extend > sandbox.MaxTimeoutSec*time.Second:
		return 0, fault.New(fault.Invalid, "invalid_lifetime", "extend_sec must be from 1 to %d", sandbox.MaxTimeoutSec)
	case row.Spec.Lifetime == 0:
		return 0, fault.New(fault.WrongState, "no_lifetime", "the sandbox has no lifetime that could be extended")
	case row.LifetimeEndsAt == nil:
		return row.Spec.Lifetime + *c.Extend, nil
	}
	left := max(row.LifetimeEndsAt.Sub(now), 0) + *c.Extend
	return (left + time.Second - 1).Truncate(time.Second), nil
}

// clocksOff returns the change that a host needs so that it keeps the
// clocks that the row says. It is pure. It is zero for everything but a machine
// that is settled in the state of its row: one that moves takes its clocks along.
func clocksOff(row *Sandbox, view *View) TimeoutChange {
	if row == nil || view == nil || view.Ref.Generation > row.Generation {
		return TimeoutChange{}
	}
	settled := row.State == sandbox.Running && view.State == ViewRunning && view.Ref.Generation == row.Generation ||
		row.State == sandbox.Paused && view.State == ViewPaused
	if !settled {
		return TimeoutChange{}
	}
	return timeoutsOf(row.Spec).changeFrom(timeoutsOf(view.Spec))
}

// pushClocks brings a host to keep the clocks of the row. The row is read
// again, because a pass may have read it before the host was told of a change.
func (s *Service) pushClocks(ctx context.Context, p pair) error {
	if clocksOff(p.row, p.view) == (TimeoutChange{}) {
		return nil
	}
	row, err := s.store.Get(ctx, p.row.ID)
	if err != nil {
		return err
	}
	change := clocksOff(&row, p.view)
	if change == (TimeoutChange{}) {
		return nil
	}
	_, err = s.tellClocks(ctx, row, change)
	return err
}

// learn copies the facts that only the host knows of a running VM, when the
// row says otherwise: the end of its lifetime, its restore report, and that it stands
// still.
func (s *Service) learn(ctx context.Context, p pair) error {
	if !newsIn(p.row, p.view) {
		return nil
	}
	return s.store.Learn(ctx, *p.view)
}

// newsIn reports whether view has facts that row has not. It is pure. Times
// are compared to the microsecond, the precision of the database.
func newsIn(row *Sandbox, view *View) bool {
	if row == nil || view == nil || row.State != sandbox.Running || view.State != ViewRunning || view.Ref != row.Ref() {
		return false
	}
	var known time.Time
	if row.LifetimeEndsAt != nil {
		known = *row.LifetimeEndsAt
	}
	same := row.Spec.Lifetime == view.Spec.Lifetime
	if same && !view.Facts.LifetimeEndsAt.Truncate(time.Microsecond).Equal(known) {
		return true
	}
	if row.DiskFull != view.Facts.DiskFull {
		return true
	}
	h := view.Facts.RestoreReport
	return h != nil && (row.RestoreReport == nil || !row.RestoreReport.At.Equal(h.At))
}
