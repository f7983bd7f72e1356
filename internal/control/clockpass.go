package control

import (
	"context"
	"time"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// clockDrift returns the change that a host needs so that it keeps the
// clocks that the row says. It is pure. It is zero for everything but a machine
// that is settled in the state of its row: one that moves takes its clocks along.
func clockDrift(row *Sandbox, view *View) TimeoutChange {
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
func (cl *clocks) pushClocks(ctx context.Context, p pair) error {
	if clockDrift(p.row, p.view) == (TimeoutChange{}) {
		return nil
	}
	row, err := cl.store.Get(ctx, p.row.ID)
	if err != nil {
		return err
	}
	change := clockDrift(&row, p.view)
	if change == (TimeoutChange{}) {
		return nil
	}
	_, err = cl.tellClocks(ctx, row, change)
	return err
}

// learn copies the facts that only the host knows of a running VM, when the
// row says otherwise: the end of its lifetime, its restore report, and that it stands
// still.
func (cl *clocks) learn(ctx context.Context, p pair) error {
	if !newsIn(p.row, p.view) {
		return nil
	}
	return cl.store.Learn(ctx, *p.view)
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
