package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/db"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Insert implements control.Store.
func (s *Store) Insert(ctx context.Context, row control.Sandbox) (control.Sandbox, error) {
	// Nothing is acknowledged by it, and the durable commit of the first move
	// makes it durable as well.
	rows, err := insert(ctx, s.q, []control.Sandbox{row}, relaxed)
	if s.writes.note(err) != nil {
		return control.Sandbox{}, err
	}
	return rows[0], nil
}

// InsertFork implements control.Store.
func (s *Store) InsertFork(ctx context.Context, snap control.Snapshot, rows []control.Sandbox) ([]control.Sandbox, error) {
	var inserted []control.Sandbox
	err := s.inTx(ctx, func(q *db.Queries) error {
		var err error
		if inserted, err = insert(ctx, q, rows, durable); err != nil {
			return err
		}
		_, err = insertSnapshot(ctx, q, snap)
		return err
	})
	return inserted, s.writes.note(err)
}

// commit says if a commit waits for the disk.
type commit bool

const (
	durable commit = false
	relaxed commit = true
)

// insert writes rows that differ in their ids alone, by one statement, which
// also takes their capacity.
func insert(ctx context.Context, q *db.Queries, rows []control.Sandbox, c commit) ([]control.Sandbox, error) {
	params, err := insertParams(rows)
	if err != nil {
		return nil, err
	}
	params.Relaxed = bool(c)
	stored, err := q.InsertSandboxes(ctx, params)
	if err != nil {
		return nil, faultOf(err)
	}
	if len(stored) == 0 {
		return nil, noRoom(ctx, q, params.HostID)
	}
	return fromRows(stored)
}

// Get implements control.Store.
func (s *Store) Get(ctx context.Context, id sandbox.ID) (control.Sandbox, error) {
	return get(ctx, s.q, id)
}

func get(ctx context.Context, q *db.Queries, id sandbox.ID) (control.Sandbox, error) {
	stored, err := q.GetSandbox(ctx, string(id))
	if errors.Is(err, pgx.ErrNoRows) {
		return control.Sandbox{}, fault.New(fault.NotFound, control.ReasonSandboxNotFound, "there is no sandbox with the id %s", id)
	}
	if err != nil {
		return control.Sandbox{}, faultOf(err)
	}
	return fromRow(stored)
}

// List implements control.Store.
func (s *Store) List(ctx context.Context, f control.Filter) ([]control.Sandbox, string, error) {
	params, err := listParams(f)
	if err != nil {
		return nil, "", err
	}
	stored, err := s.q.ListSandboxes(ctx, params)
	if err != nil {
		return nil, "", faultOf(err)
	}
	return firstRows(stored, f.Limit, fromRows,
		func(row control.Sandbox) string { return cursorAfter(row.CreatedAt, string(row.ID)) })
}

// Move implements control.Store.
func (s *Store) Move(ctx context.Context, m control.Move) (control.Sandbox, bool, error) {
	if !sandbox.CanMove(m.From, m.To) {
		return control.Sandbox{}, false, fault.New(fault.Internal, "illegal_move",
			"a sandbox cannot go from %s to %s", m.From, m.To)
	}
	if m.To != sandbox.Resuming {
		row, won, err := move(ctx, s.q, m)
		return row, won, s.writes.note(err)
	}
	var (
		row control.Sandbox
		won bool
	)
	err := s.inTx(ctx, func(q *db.Queries) error {
		var err error
		if row, won, err = move(ctx, q, m); err != nil || !won {
			return err
		}
		return checkCapacity(ctx, q, row.HostID)
	})
	if s.writes.note(err) != nil {
		return control.Sandbox{}, false, err
	}
	return row, won, nil
}

// move makes m, or reads the row as it is if m has lost.
func move(ctx context.Context, q *db.Queries, m control.Move) (control.Sandbox, bool, error) {
	params, err := moveParams(m)
	if err != nil {
		return control.Sandbox{}, false, err
	}
	stored, err := q.MoveSandbox(ctx, params)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		row, err := get(ctx, q, m.Ref.ID)
		return row, false, err
	case err != nil:
		return control.Sandbox{}, false, faultOf(err)
	}
	row, err := fromRow(stored)
	return row, err == nil, err
}

// SetClocks implements control.Store.
func (s *Store) SetClocks(ctx context.Context, c control.ClockChange) (control.Sandbox, bool, error) {
	was := c.Was.Spec
	stored, err := s.q.SetSandboxClocks(ctx, db.SetSandboxClocksParams{
		TimeoutSec: seconds(c.Timeouts.Idle), LifetimeSec: seconds(c.Timeouts.Lifetime),
		OnTimeout: string(c.Timeouts.OnTimeout), AutoResume: c.AutoResume, LifetimeEndsAt: c.LifetimeEndsAt,
		ID: string(c.Was.ID), Generation: int64(c.Was.Generation), State: string(c.Was.State),
		WasTimeoutSec: seconds(was.Timeout), WasLifetimeSec: seconds(was.Lifetime),
		WasOnTimeout: string(was.OnTimeout), WasAutoResume: was.AutoResume, WasLifetimeEndsAt: c.Was.LifetimeEndsAt,
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		row, err := s.Get(ctx, c.Was.ID)
		return row, false, err
	case err != nil:
		return control.Sandbox{}, false, faultOf(err)
	}
	row, err := fromRow(stored)
	return row, err == nil, err
}

// SetEgress implements control.Store.
func (s *Store) SetEgress(ctx context.Context, c control.EgressChange) (control.Sandbox, bool, error) {
	was, err := egressJSON(c.Was.Spec.Egress)
	if err != nil {
		return control.Sandbox{}, false, err
	}
	egress, err := egressJSON(c.Egress)
	if err != nil {
		return control.Sandbox{}, false, err
	}
	stored, err := s.q.SetSandboxEgress(ctx, db.SetSandboxEgressParams{
		ID: string(c.Was.ID), Generation: int64(c.Was.Generation), State: string(c.Was.State), Egress: egress, WasEgress: was,
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		row, err := s.Get(ctx, c.Was.ID)
		return row, false, err
	case err != nil:
		return control.Sandbox{}, false, s.writes.note(faultOf(err))
	}
	row, err := fromRow(stored)
	return row, err == nil, err
}

// SaveRuntime implements control.Store.
func (s *Store) SaveRuntime(ctx context.Context, v control.ObservedSandbox) error {
	f := v.Runtime
	report, err := restoreReportJSON(f.RestoreReport)
	if err != nil {
		return err
	}
	return faultOf(s.q.LearnSandbox(ctx, db.LearnSandboxParams{
		ID: string(v.Ref.ID), Generation: int64(v.Ref.Generation), RestoreReport: report, Source: optional(f.Source),
		DiskFull:    f.DiskFull,
		LifetimeSec: seconds(v.Spec.Lifetime),
		StartedAt:   optionalTime(f.StartedAt), LifetimeEndsAt: optionalTime(f.LifetimeEndsAt),
	}))
}

// Unended implements control.Store.
func (s *Store) Unended(ctx context.Context, hostID string) ([]control.Sandbox, error) {
	stored, err := s.q.UnendedSandboxes(ctx, hostID)
	if err != nil {
		return nil, faultOf(err)
	}
	return fromRows(stored)
}

// Touch implements control.Store.
func (s *Store) Touch(ctx context.Context, seen map[sandbox.ID]time.Time) error {
	var p db.TouchSandboxesParams
	for id, at := range seen {
		p.Ids = append(p.Ids, string(id))
		p.Times = append(p.Times, at)
	}
	return faultOf(s.q.TouchSandboxes(ctx, p))
}

// DeleteEnded implements control.Store.
func (s *Store) DeleteEnded(ctx context.Context, age time.Duration, limit int) (int, error) {
	n, err := s.q.DeleteEndedSandboxes(ctx, db.DeleteEndedSandboxesParams{AgeSec: age.Seconds(), MaxRows: int32(limit)})
	return int(n), faultOf(err)
}
