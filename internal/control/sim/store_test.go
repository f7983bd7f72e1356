package sim

import (
	"context"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/memstore"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// faultyStore is the connection of one process to the database. It adds time and
// faults, and shows every change of a row to the model.
type faultyStore struct {
	*memstore.Store
	p *process
}

var errAway = fault.New(fault.Unavailable, "database_unavailable", "the database cannot be used at the moment")

// call makes one statement take its time. It returns an error that the caller
// sees instead of the answer. act reports whether the statement takes effect
// nevertheless.
func (f *faultyStore) call(ctx context.Context, op, id string) (act bool, err error) {
	w := f.p.w
	r := w.draw(f.p.name + " db " + op + " " + w.nameOf(id))
	wait := between(r, 100*time.Microsecond, 3*time.Millisecond)
	faulty := !w.quiet.Load()
	if w.seed == traced {
		w.note("%s db %s %s takes %s", f.p.name, op, w.nameOf(id), wait)
	}
	if faulty && r.IntN(100) < 2 {
		wait = between(r, 10*time.Millisecond, 4*time.Second)
	}
	if sleep(ctx, wait) != nil {
		return r.IntN(2) == 0, fault.As(ctx.Err())
	}
	switch {
	case f.p.dead.Err() != nil:
		return false, errAway
	case time.Since(w.start) < time.Duration(w.away.Load()):
		return false, errAway
	case faulty && r.IntN(200) == 0:
		return false, errAway
	case faulty && r.IntN(200) == 0:
		return true, errAway // the commit was made and its answer lost
	}
	return true, nil
}

// changed shows the row of id to the model after a statement of this process.
func (f *faultyStore) changed(op string, ids ...sandbox.ID) {
	for _, id := range ids {
		f.p.w.observe(f.p.name+" "+op, id, false)
	}
}

// do runs a statement that changes the row of id.
func do[T any](ctx context.Context, f *faultyStore, op string, id sandbox.ID, statement func() (T, error)) (T, error) {
	act, err := f.call(ctx, op, string(id))
	var out T
	if act {
		var actErr error
		f.p.w.statement.Lock()
		out, actErr = statement()
		f.changed(op, id)
		f.p.w.statement.Unlock()
		if err == nil {
			return out, actErr
		}
	}
	var zero T
	if err != nil {
		return zero, err
	}
	return out, nil
}

// Insert implements control.Store.
func (f *faultyStore) Insert(ctx context.Context, row control.Sandbox) (control.Sandbox, error) {
	return do(ctx, f, "insert", row.ID, func() (control.Sandbox, error) { return f.Store.Insert(context.Background(), row) })
}

// InsertFork implements control.Store.
func (f *faultyStore) InsertFork(ctx context.Context, snap control.Snapshot, rows []control.Sandbox) ([]control.Sandbox, error) {
	for _, row := range rows {
		f.p.w.nameOf(string(row.ID))
	}
	return do(ctx, f, "fork", rows[0].ID, func() ([]control.Sandbox, error) {
		out, err := f.Store.InsertFork(context.Background(), snap, rows)
		for _, row := range rows[1:] {
			f.changed("fork", row.ID)
		}
		return out, err
	})
}

// moved is the answer of a compare-and-set.
type moved struct {
	row control.Sandbox
	won bool
}

// Move implements control.Store.
func (f *faultyStore) Move(ctx context.Context, m control.Move) (control.Sandbox, bool, error) {
	out, err := do(ctx, f, "move to "+string(m.To), m.Ref.ID, func() (moved, error) {
		row, won, err := f.Store.Move(context.Background(), m)
		return moved{row, won}, err
	})
	return out.row, out.won, err
}

// SetClocks implements control.Store.
func (f *faultyStore) SetClocks(ctx context.Context, c control.ClockChange) (control.Sandbox, bool, error) {
	out, err := do(ctx, f, "clocks", c.Was.ID, func() (moved, error) {
		row, won, err := f.Store.SetClocks(context.Background(), c)
		return moved{row, won}, err
	})
	return out.row, out.won, err
}

// SetEgress implements control.Store.
func (f *faultyStore) SetEgress(ctx context.Context, c control.EgressChange) (control.Sandbox, bool, error) {
	out, err := do(ctx, f, "egress", c.Was.ID, func() (moved, error) {
		row, won, err := f.Store.SetEgress(context.Background(), c)
		return moved{row, won}, err
	})
	return out.row, out.won, err
}

// SaveRuntime implements control.Store.
func (f *faultyStore) SaveRuntime(ctx context.Context, v control.ObservedSandbox) error {
	_, err := do(ctx, f, "learn", v.Ref.ID, func() (struct{}, error) { return struct{}{}, f.Store.SaveRuntime(context.Background(), v) })
	return err
}

// Get implements control.Store.
func (f *faultyStore) Get(ctx context.Context, id sandbox.ID) (control.Sandbox, error) {
	if _, err := f.call(ctx, "get", string(id)); err != nil {
		return control.Sandbox{}, err
	}
	return f.Store.Get(ctx, id)
}

// Unended implements control.Store.
func (f *faultyStore) Unended(ctx context.Context, hostID string) ([]control.Sandbox, error) {
	if _, err := f.call(ctx, "unended "+hostID, ""); err != nil {
		return nil, err
	}
	return f.Store.Unended(ctx, hostID)
}

// Touch implements control.Store.
func (f *faultyStore) Touch(ctx context.Context, seen map[sandbox.ID]time.Time) error {
	act, err := f.call(ctx, "touch", "")
	if act {
		_ = f.Store.Touch(context.Background(), seen)
	}
	return err
}

// DeleteEnded implements control.Store.
func (f *faultyStore) DeleteEnded(ctx context.Context, age time.Duration, limit int) (int, error) {
	act, err := f.call(ctx, "delete ended", "")
	n := 0
	if act {
		f.p.w.statement.Lock()
		n, _ = f.Store.DeleteEnded(context.Background(), age, limit)
		f.p.w.observeAll(f.p.name + " delete ended")
		f.p.w.statement.Unlock()
	}
	return n, err
}

// SaveHost implements control.Store.
func (f *faultyStore) SaveHost(ctx context.Context, h control.HostInfo, c control.Capacity) error {
	act, err := f.call(ctx, "save host "+h.ID, "")
	if act {
		_ = f.Store.SaveHost(context.Background(), h, c)
	}
	return err
}

// Usage implements control.Store.
func (f *faultyStore) Usage(ctx context.Context) (map[string]control.Capacity, error) {
	if _, err := f.call(ctx, "usage", ""); err != nil {
		return nil, err
	}
	return f.Store.Usage(ctx)
}

// HoldServer implements control.Store. The database may see the end of a process
// some time after it.
func (f *faultyStore) HoldServer(ctx context.Context, id control.ServerID, held func()) error {
	if _, err := f.call(ctx, "hold", ""); err != nil {
		return err
	}
	linger := between(f.p.w.draw(f.p.name+" linger"), 0, 5*time.Second)
	session, cancel := context.WithCancel(context.Background())
	f.p.w.work.Go(func() {
		select {
		case <-ctx.Done():
			_ = sleep(session, linger)
		case <-session.Done():
		}
		cancel()
	})
	ended := make(chan error, 1)
	f.p.w.work.Go(func() { ended <- f.Store.HoldServer(session, id, held) })
	select {
	case err := <-ended:
		cancel()
		return err
	case <-ctx.Done():
		return fault.As(ctx.Err())
	}
}

// LiveServers implements control.Store.
func (f *faultyStore) LiveServers(ctx context.Context, ids []control.ServerID) ([]control.ServerID, error) {
	if _, err := f.call(ctx, "live servers", ""); err != nil {
		return nil, err
	}
	return f.Store.LiveServers(ctx, ids)
}

// InsertSnapshot implements control.Store.
func (f *faultyStore) InsertSnapshot(ctx context.Context, row control.Snapshot, q control.SnapshotQuota) (out control.Snapshot, err error) {
	act, callErr := f.call(ctx, "insert snapshot", string(row.ID))
	if act {
		out, err = f.Store.InsertSnapshot(ctx, row, q)
	}
	if callErr != nil {
		return control.Snapshot{}, callErr
	}
	return out, err
}

// GetSnapshot implements control.Store.
func (f *faultyStore) GetSnapshot(ctx context.Context, id sandbox.SnapshotID) (control.Snapshot, error) {
	if _, err := f.call(ctx, "get snapshot", string(id)); err != nil {
		return control.Snapshot{}, err
	}
	return f.Store.GetSnapshot(ctx, id)
}

// MoveSnapshot implements control.Store.
func (f *faultyStore) MoveSnapshot(ctx context.Context, m control.SnapshotMove) (out control.Snapshot, won bool, err error) {
	act, callErr := f.call(ctx, "move snapshot to "+string(m.To), string(m.ID))
	if act {
		f.p.w.statement.Lock()
		was, readErr := f.Store.GetSnapshot(ctx, m.ID)
		out, won, err = f.Store.MoveSnapshot(ctx, m)
		f.p.w.statement.Unlock()
		if readErr == nil && won && was.Status == control.SnapshotDeleting && m.To != control.SnapshotDeleting {
			f.p.w.broken("snapshot %s moved from deleting to %s", f.p.w.nameOf(string(m.ID)), m.To)
		}
	}
	if callErr != nil {
		return control.Snapshot{}, false, callErr
	}
	return out, won, err
}

// SnapshotsOf implements control.Store.
func (f *faultyStore) SnapshotsOf(ctx context.Context, hostID string) ([]control.Snapshot, error) {
	if _, err := f.call(ctx, "snapshots of "+hostID, ""); err != nil {
		return nil, err
	}
	return f.Store.SnapshotsOf(ctx, hostID)
}

// RemoveSnapshot implements control.Store.
func (f *faultyStore) RemoveSnapshot(ctx context.Context, id sandbox.SnapshotID) error {
	act, err := f.call(ctx, "remove snapshot", string(id))
	if act {
		_ = f.Store.RemoveSnapshot(ctx, id)
	}
	return err
}
