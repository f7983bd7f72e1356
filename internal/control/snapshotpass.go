package control

import (
	"context"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control/reconcile"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// snapshotReconciler keeps the rows of snapshots and hosts in agreement.
type snapshotReconciler struct {
	common
	store snapshotPassStore
}

// snapshotPassStore is the part of [Store] that a pass over a host needs for
// snapshots.
type snapshotPassStore interface {
	SnapshotsOf(ctx context.Context, hostID string) ([]Snapshot, error)
	MoveSnapshot(ctx context.Context, m SnapshotMove) (row Snapshot, won bool, err error)
	MeasureSnapshot(ctx context.Context, v ObservedSnapshot) error
	RemoveSnapshot(ctx context.Context, id sandbox.SnapshotID) error
}

// pass compares all snapshots of one host once and carries the decisions
// out. Rows are read before the host is asked, as in pass.
func (r *snapshotReconciler) pass(ctx context.Context, host Host, hostID string, memory *snapshotMachine) error {
	readCtx, cancel := context.WithTimeout(ctx, 2*r.cfg.AskTimeout)
	defer cancel()
	pairs, err := r.pairs(readCtx, host, hostID)
	if err != nil {
		return err
	}
	decisions := memory.Step(time.Now(), ruleInputs(pairs))
	slots := make(chan struct{}, maxAtOnce)
	var wg sync.WaitGroup
	for i, p := range pairs {
		d := decisions[i]
		if d.Action == reconcile.None && !remeasured(p) {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := fault.Caught(func() error { return r.applySnapshot(ctx, host, p, d) }); err != nil {
				r.log.Warn("row and host not reconciled, will try again", "snapshot", p.id(), "error", err)
			}
		})
	}
	wg.Wait()
	return nil
}

func (r *snapshotReconciler) pairs(ctx context.Context, host Host, hostID string) ([]snapshotPair, error) {
	rows, err := r.store.SnapshotsOf(ctx, hostID)
	if err != nil {
		return nil, err
	}
	observed, err := host.Snapshots(ctx)
	if err != nil {
		return nil, err
	}
	observedOf := make(map[sandbox.SnapshotID]*ObservedSnapshot, len(observed))
	for i, v := range observed {
		if !v.Deleted {
			observedOf[v.ID] = &observed[i]
		}
	}
	pairs := make([]snapshotPair, 0, len(rows))
	for i := range rows {
		pairs = append(pairs, snapshotPair{row: &rows[i], observed: observedOf[rows[i].ID]})
		delete(observedOf, rows[i].ID)
	}
	for i, v := range observed {
		if observedOf[v.ID] == &observed[i] {
			pairs = append(pairs, snapshotPair{observed: &observed[i]})
		}
	}
	return pairs, nil
}

// remeasured reports whether the host now says another size or number of users.
func remeasured(p snapshotPair) bool {
	return p.row != nil && p.observed != nil && (p.row.Bytes != p.observed.Bytes || p.row.Users != p.observed.Users)
}

// applySnapshot carries out the decision d about p. Without one it copies the
// host's measurements to the row.
func (r *snapshotReconciler) applySnapshot(ctx context.Context, host Host, p snapshotPair, d reconcile.SnapshotDecision) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.DestroyTimeout)
	defer cancel()
	switch d.Action {
	case reconcile.Move:
		if p.observed != nil && keptMemory(*p.row, *p.observed) {
			return r.refuseMemory(ctx, host, *p.row)
		}
		_, _, err := r.store.MoveSnapshot(ctx, SnapshotMove{
			ID: p.row.ID, From: []SnapshotStatus{p.row.Status}, To: d.To, Observed: p.observed,
		})
		return err
	case reconcile.Delete:
		if err := host.DeleteSnapshot(ctx, p.id()); err != nil || p.row == nil {
			return err
		}
		return r.store.RemoveSnapshot(ctx, p.id())
	case reconcile.Remove:
		return r.store.RemoveSnapshot(ctx, p.id())
	default:
		return r.store.MeasureSnapshot(ctx, *p.observed)
	}
}

// refuseMemory deletes a snapshot whose host kept the memory that it was to be without. Its
// row ends in Error, because a request may still wait for it.
func (r *snapshotReconciler) refuseMemory(ctx context.Context, host Host, row Snapshot) error {
	r.log.Warn("the host kept the memory of a snapshot without memory, which is deleted", "snapshot", row.ID)
	if err := host.DeleteSnapshot(ctx, row.ID); err != nil {
		return err
	}
	_, _, err := r.store.MoveSnapshot(ctx, SnapshotMove{ID: row.ID, From: []SnapshotStatus{row.Status}, To: SnapshotError})
	return err
}
