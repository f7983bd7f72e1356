package control

import (
	"context"
	"time"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// clockDrift returns the change that a host needs so that it keeps the clocks of the
// row. It is pure. The change is zero unless the sandbox is stable in the state of
// its row: a sandbox in transition takes its clocks along.
func clockDrift(row *Sandbox, observed *ObservedSandbox) TimeoutChange {
	if !stable(row, observed) {
		return TimeoutChange{}
	}
	return timeoutsOf(row.Spec).changeFrom(timeoutsOf(observed.Spec))
}

// stable reports whether the sandbox runs or is paused according to both its row and its
// host. It is pure.
func stable(row *Sandbox, observed *ObservedSandbox) bool {
	if row == nil || observed == nil || observed.Ref.Generation > row.Generation {
		return false
	}
	return row.State == sandbox.Running && observed.State == VMRunning && observed.Ref.Generation == row.Generation ||
		row.State == sandbox.Paused && observed.State == VMPaused
}

// pushClocks brings a host to keep the clocks of the row. The row is read
// again, because a pass may have read it before the host was told of a change.
func (cl *clocks) pushClocks(ctx context.Context, p pair) error {
	if clockDrift(p.row, p.observed) == (TimeoutChange{}) {
		return nil
	}
	row, err := cl.store.Get(ctx, p.row.ID)
	if err != nil {
		return err
	}
	change := clockDrift(&row, p.observed)
	if change == (TimeoutChange{}) {
		return nil
	}
	_, err = cl.tellClocks(ctx, row, change)
	return err
}

// saveRuntime copies the runtime information that only the host has to the row, when the
// row says otherwise: the end of its lifetime, its restore report, and that its
// host's disk is full.
func (cl *clocks) saveRuntime(ctx context.Context, p pair) error {
	if !runtimeDiffers(p.row, p.observed) {
		return nil
	}
	return cl.store.SaveRuntime(ctx, *p.observed)
}

// runtimeDiffers reports whether the host's runtime information differs from the row. It is pure. Times
// are compared to the microsecond, the precision of the database.
func runtimeDiffers(row *Sandbox, observed *ObservedSandbox) bool {
	if row == nil || observed == nil || row.State != sandbox.Running || observed.State != VMRunning || observed.Ref != row.Ref() {
		return false
	}
	var known time.Time
	if row.LifetimeEndsAt != nil {
		known = *row.LifetimeEndsAt
	}
	same := row.Spec.Lifetime == observed.Spec.Lifetime
	if same && !observed.Runtime.LifetimeEndsAt.Truncate(time.Microsecond).Equal(known) {
		return true
	}
	if row.DiskFull != observed.Runtime.DiskFull {
		return true
	}
	h := observed.Runtime.RestoreReport
	return h != nil && (row.RestoreReport == nil || !row.RestoreReport.At.Equal(h.At))
}
