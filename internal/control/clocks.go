package control

import (
	"context"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// clocks is the use case that changes the clocks of a sandbox, and the part of the
// reconciler that brings clocks and runtime information into agreement.
type clocks struct {
	common
	store clockStore
	rows  *rowReconciler
}

// clockStore is the part of [Store] that clocks needs.
type clockStore interface {
	sandboxReader
	SetClocks(ctx context.Context, c ClockChange) (row Sandbox, won bool, err error)
	SaveRuntime(ctx context.Context, v ObservedSandbox) error
}

// SetTimeouts implements Clocks. The row is written first, by compare-and-set;
// then the host is told.
func (cl *clocks) SetTimeouts(ctx context.Context, id sandbox.ID, c ClockRequest) (Sandbox, error) {
	ctx, cancel := cl.detached(ctx, cl.cfg.AskTimeout)
	defer cancel()
	was, row, err := cl.writeClocks(ctx, id, c)
	if err != nil {
		return Sandbox{}, err
	}
	change := timeoutsOf(row.Spec).changeFrom(timeoutsOf(was.Spec))
	if c.Lifetime != nil || c.Extend != nil {
		change.Lifetime = &row.Spec.Lifetime // it starts again even if its length is the same
	}
	if change == (TimeoutChange{}) {
		return row, nil
	}
	return cl.tellClocks(ctx, row, change)
}

// writeClocks makes the change that c asks for in the row, and returns the row
// before and after it. It tries again after a concurrent change. Each retry means
// that another change succeeded, so the loop ends.
func (cl *clocks) writeClocks(ctx context.Context, id sandbox.ID, c ClockRequest) (was, row Sandbox, err error) {
	was, err = cl.store.Get(ctx, id)
	for err == nil {
		if was.State.Ended() || was.State == sandbox.Stopping {
			return was, row, wrongState(was, sandbox.StatusRunning)
		}
		change, err := c.apply(was, time.Now())
		if err != nil {
			return was, row, err
		}
		row, won, err := cl.store.SetClocks(ctx, change)
		if err != nil || won {
			return was, row, err
		}
		was = row
	}
	return was, row, err
}

// tellClocks has row's host change its clocks.
func (cl *clocks) tellClocks(ctx context.Context, row Sandbox, change TimeoutChange) (Sandbox, error) {
	host, err := cl.hostOf(row)
	if err != nil {
		return Sandbox{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, cl.cfg.AskTimeout)
	defer cancel()
	observed, err := host.SetTimeouts(ctx, row.Ref(), change)
	if err != nil {
		return Sandbox{}, cl.rows.orEnded(ctx, row, fault.Wrap(err, fault.HostFailed, "clocks_pending",
			"host %s did not confirm the new clocks of sandbox %s; they apply as soon as it answers", row.HostID, row.ID))
	}
	if observed.State != VMRunning || observed.Ref != row.Ref() {
		return row, nil
	}
	if err := cl.store.SaveRuntime(ctx, observed); err != nil {
		return Sandbox{}, err
	}
	return cl.store.Get(ctx, row.ID)
}

// apply returns the change of row that c asks for. It is pure. A lifetime that
// runs is kept as its end; the stored and sent value is the time left until then.
func (c ClockRequest) apply(row Sandbox, now time.Time) (ClockChange, error) {
	if c.Extend != nil {
		lifetime, err := c.extended(row, now)
		if err != nil {
			return ClockChange{}, err
		}
		c.Lifetime = &lifetime
	}
	spec, err := c.ApplyTo(row.Spec)
	if err != nil {
		return ClockChange{}, err
	}
	endsAt := row.LifetimeEndsAt
	if c.Lifetime != nil {
		endsAt = nil
		if spec.Lifetime > 0 && row.State == sandbox.Running {
			end := now.Add(spec.Lifetime).UTC().Truncate(time.Microsecond)
			endsAt = &end
		}
	}
	return ClockChange{Was: row, Timeouts: timeoutsOf(spec), AutoResume: spec.AutoResume, LifetimeEndsAt: endsAt}, nil
}

// ApplyTo returns spec with the clocks that c gives, of which Extend is none. It
// validates the whole spec; the error is of kind Invalid.
func (c ClockRequest) ApplyTo(spec sandbox.Spec) (sandbox.Spec, error) {
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
	return spec, spec.Validate()
}

// extended returns the lifetime, counted from now, whose end is later by c.Extend, in
// whole seconds. A lifetime that does not run yet becomes longer by c.Extend.
func (c ClockRequest) extended(row Sandbox, now time.Time) (time.Duration, error) {
	switch {
	case c.Lifetime != nil:
		return 0, fault.New(fault.Invalid, "invalid_lifetime", "give lifetime_sec or extend_sec, not both")
	case *c.Extend <= 0 || *c.Extend > sandbox.MaxTimeoutSec*time.Second:
		return 0, fault.New(fault.Invalid, "invalid_lifetime", "extend_sec must be from 1 to %d", sandbox.MaxTimeoutSec)
	case row.Spec.Lifetime == 0:
		return 0, fault.New(fault.WrongState, "no_lifetime", "sandbox %s has no lifetime to extend; set one with lifetime_sec", row.ID)
	case row.LifetimeEndsAt == nil:
		return row.Spec.Lifetime + *c.Extend, nil
	}
	left := max(row.LifetimeEndsAt.Sub(now), 0) + *c.Extend
	return (left + time.Second - 1).Truncate(time.Second), nil
}
