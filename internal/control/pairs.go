package control

import (
	"context"
	"maps"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// pairs reads both sides of a host. A view without a live row is looked up by
// its id, for it may have ended, or be younger than the first reading.
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
	views, err := host.Sandboxes(ctx)
	if err != nil {
		return nil, err
	}
	viewOf := make(map[sandbox.ID]*View, len(views))
	for i := range views {
		viewOf[views[i].Ref.ID] = &views[i]
	}
	pairs := make([]pair, 0, len(rows))
	for i := range rows {
		pairs = append(pairs, pair{row: &rows[i], view: viewOf[rows[i].ID], operationOver: over[rows[i].ID]})
		delete(viewOf, rows[i].ID)
	}
	for i := range views { // in the host's order, so that passes are reproducible
		if viewOf[views[i].Ref.ID] == nil {
			continue
		}
		p, err := r.lookUp(ctx, hostID, &views[i])
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, p)
	}
	return pairs, nil
}

// lookUp finds the row for a view. A row that belongs to another host is none.
func (r *reconciler) lookUp(ctx context.Context, hostID string, view *View) (pair, error) {
	row, err := r.store.Get(ctx, view.Ref.ID)
	switch {
	case fault.Is(err, fault.NotFound):
		return pair{view: view}, nil
	case err != nil:
		return pair{}, err
	case row.HostID != hostID:
		return pair{view: view}, nil
	}
	return pair{row: &row, view: view}, nil
}

// noteViews takes over the last activity that only hosts see, such as traffic
// to a port.
func (r *reconciler) noteViews(pairs []pair) {
	seen := make(map[sandbox.ID]time.Time)
	for _, p := range pairs {
		if p.row == nil || p.view == nil || p.view.LastActiveAt.IsZero() {
			continue
		}
		if p.row.LastActiveAt == nil || p.view.LastActiveAt.Sub(*p.row.LastActiveAt) > time.Second {
			seen[p.row.ID] = p.view.LastActiveAt
		}
	}
	r.activity.merge(seen)
}
