package control

import (
	"context"
	"maps"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// pairs reads both sides of a host. An observed state without a live row is looked up by
// its id, because it may have ended, or be younger than the first reading.
func (r *reconciler) pairs(ctx context.Context, host Host, hostID string) ([]pair, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*r.cfg.AskTimeout)
	defer cancel()
	// Both before and after: an operation may begin while the rows are read, and
	// one that ends meanwhile may have moved its row on since.
	busy := r.inFlight.all()
	rows, err := r.store.Unended(ctx, hostID)
	if err != nil {
		return nil, err
	}
	maps.Copy(busy, r.inFlight.all())
	over, err := r.presence.finishedOperations(ctx, rows, busy)
	if err != nil {
		return nil, err
	}
	observed, err := host.Sandboxes(ctx)
	if err != nil {
		return nil, err
	}
	observedOf := make(map[sandbox.ID]*ObservedSandbox, len(observed))
	for i := range observed {
		observedOf[observed[i].Ref.ID] = &observed[i]
	}
	pairs := make([]pair, 0, len(rows))
	for i := range rows {
		pairs = append(pairs, pair{row: &rows[i], observed: observedOf[rows[i].ID], operationOver: over[rows[i].ID]})
		delete(observedOf, rows[i].ID)
	}
	for i := range observed { // in the host's order, so that passes are reproducible
		if observedOf[observed[i].Ref.ID] == nil {
			continue
		}
		p, err := r.lookUp(ctx, hostID, &observed[i])
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, p)
	}
	return pairs, nil
}

// lookUp finds the row for an observed state. A row that belongs to another host is none.
func (r *reconciler) lookUp(ctx context.Context, hostID string, observed *ObservedSandbox) (pair, error) {
	row, err := r.store.Get(ctx, observed.Ref.ID)
	switch {
	case fault.Is(err, fault.NotFound):
		return pair{observed: observed}, nil
	case err != nil:
		return pair{}, err
	case row.HostID != hostID:
		return pair{observed: observed}, nil
	}
	return pair{row: &row, observed: observed}, nil
}

// noteActivity takes over the last activity that only hosts see, such as traffic
// to a port.
func (r *reconciler) noteActivity(pairs []pair) {
	seen := make(map[sandbox.ID]time.Time)
	for _, p := range pairs {
		if p.row == nil || p.observed == nil || p.observed.LastActiveAt.IsZero() {
			continue
		}
		if p.row.LastActiveAt == nil || p.observed.LastActiveAt.Sub(*p.row.LastActiveAt) > time.Second {
			seen[p.row.ID] = p.observed.LastActiveAt
		}
	}
	r.activity.merge(seen)
}
