package control

import (
	"context"
	"time"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Timeouts are the clocks of a sandbox, as its host keeps them.
type Timeouts struct {
	// Idle is the time without use, Lifetime the time from now or from the
	// next start, after which OnTimeout happens. Zero is never.
	Idle, Lifetime time.Duration
	OnTimeout      sandbox.TimeoutAction
}

// timeoutsOf returns the clocks of spec.
func timeoutsOf(spec sandbox.Spec) Timeouts {
	return Timeouts{Idle: spec.Timeout, Lifetime: spec.Lifetime, OnTimeout: spec.OnTimeout}
}

// TimeoutChange tells a host which clocks to change. A nil field leaves the value
// unchanged.
type TimeoutChange struct {
	Idle, Lifetime *time.Duration
	OnTimeout      *sandbox.TimeoutAction
}

// changeFrom returns the change that turns was into t.
func (t Timeouts) changeFrom(was Timeouts) TimeoutChange {
	var c TimeoutChange
	if t.Idle != was.Idle {
		c.Idle = &t.Idle
	}
	if t.Lifetime != was.Lifetime {
		c.Lifetime = &t.Lifetime
	}
	if t.OnTimeout != was.OnTimeout {
		c.OnTimeout = &t.OnTimeout
	}
	return c
}

// ClockChange is a compare-and-set of a row's clocks: Was must be the row that
// was last read.
type ClockChange struct {
	Was        Sandbox
	Timeouts   Timeouts
	AutoResume bool
	// LifetimeEndsAt is nil when there is no lifetime or it does not run.
	LifetimeEndsAt *time.Time
}

// ClockRequest is a user's change of clocks. A nil field leaves the value unchanged.
type ClockRequest struct {
	Idle *time.Duration
	// Lifetime counts from now. Extend moves the end of the lifetime that
	// there is; only one of the two may be given.
	Lifetime, Extend *time.Duration
	OnTimeout        *sandbox.TimeoutAction
	AutoResume       *bool
}

// Clocks changes the clocks of sandboxes.
type Clocks interface {
	// SetTimeouts returns the sandbox with its new clocks. When the host does
	// not take them the error is HostFailed, the row has them nevertheless,
	// and the reconciler brings the host to agree.
	SetTimeouts(ctx context.Context, id sandbox.ID, c ClockRequest) (Sandbox, error)
}
