package control

import (
	"context"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// retentionBatch is how many rows one DELETE takes, so that none runs long.
const retentionBatch = 500

// retention deletes the rows of sandboxes and snapshots that ended long ago.
type retention struct {
	common
	store retentionStore
}

// retentionStore is the part of [Store] that retention needs.
type retentionStore interface {
	DeleteEnded(ctx context.Context, age time.Duration, limit int) (int, error)
	RemoveFailedSnapshots(ctx context.Context, age time.Duration) error
}

// run deletes ended rows past their retention until ctx ends.
func (r *retention) run(ctx context.Context) {
	tick := time.NewTicker(r.cfg.ReconcileInterval)
	defer tick.Stop()
	for {
		if err := fault.Caught(func() error { return r.deleteEnded(ctx) }); err != nil && ctx.Err() == nil {
			r.log.Warn("ended rows are not deleted, will try again", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (r *retention) deleteEnded(ctx context.Context) error {
	if err := r.store.RemoveFailedSnapshots(ctx, r.cfg.Retention); err != nil {
		return err
	}
	for {
		n, err := r.store.DeleteEnded(ctx, r.cfg.Retention, retentionBatch)
		if err != nil || n < retentionBatch {
			return err
		}
	}
}
