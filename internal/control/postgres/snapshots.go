package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/db"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// snapshotLock is the key of the advisory lock under which the quota of
// snapshots is checked, a number that nothing else in the database uses.
const snapshotLock = migrationLock + 1

// InsertSnapshot implements control.Store.
func (s *Store) InsertSnapshot(ctx context.Context, row control.Snapshot, quota control.SnapshotQuota) (control.Snapshot, error) {
	var stored control.Snapshot
	err := s.inTx(ctx, func(q *db.Queries) error {
		if err := q.LockSnapshots(ctx, snapshotLock); err != nil {
			return err
		}
		held, err := q.CountSnapshots(ctx)
		if err != nil {
			return err
		}
		if err := checkQuota(held, quota); err != nil {
			return err
		}
		stored, err = insertSnapshot(ctx, q, row)
		return err
	})
	return stored, err
}

func checkQuota(held db.CountSnapshotsRow, quota control.SnapshotQuota) error {
	switch {
	case held.Count >= int64(quota.Count):
		return fault.New(fault.Quota, control.ReasonSnapshotQuota,
			"there are %d snapshots, which is as many as there may be; delete some", held.Count)
	case quota.Bytes > 0 && uint64(held.Bytes) >= quota.Bytes:
		return fault.New(fault.Quota, control.ReasonSnapshotQuota,
			"the snapshots take %d bytes, and may take %d; delete some", held.Bytes, quota.Bytes)
	}
	return nil
}

func insertSnapshot(ctx context.Context, q *db.Queries, row control.Snapshot) (control.Snapshot, error) {
	metadata, err := metadataJSON(row.Metadata)
	if err != nil {
		return control.Snapshot{}, err
	}
	stored, err := q.InsertSnapshot(ctx, db.InsertSnapshotParams{
		ID: string(row.ID), Kind: string(row.Kind), Status: string(row.Status), Name: row.Name,
		SandboxID: string(row.Of.ID), Generation: int64(row.Of.Generation), HostID: row.HostID,
		Template: row.Spec.Template, Vcpus: int32(row.Spec.VCPUs),
		MemoryMb: int32(row.Spec.MemoryMB), DiskMb: int32(row.Spec.DiskMB), Runtime: string(row.Spec.Runtime), Metadata: metadata,
		TemplateID: row.Spec.TemplateID, TemplateRef: row.Spec.TemplateRef, DefaultUser: row.Spec.User, DefaultDir: row.Spec.Workdir,
		DiskOnly: row.DiskOnly,
	})
	return snapshotOr(stored, err)
}

// GetSnapshot implements control.Store.
func (s *Store) GetSnapshot(ctx context.Context, id sandbox.SnapshotID) (control.Snapshot, error) {
	snap, err := snapshotOr(s.q.GetSnapshot(ctx, string(id)))
	if fault.ReasonOf(err) == control.ReasonSnapshotNotFound {
		err = fault.New(fault.NotFound, control.ReasonSnapshotNotFound, "there is no snapshot with the id %s", id)
	}
	return snap, err
}

// TemplateSnapshot implements control.Store.
func (s *Store) TemplateSnapshot(ctx context.Context, name string) (control.Snapshot, error) {
	return snapshotOr(s.q.TemplateSnapshot(ctx, name))
}

// ListSnapshots implements control.Store.
func (s *Store) ListSnapshots(ctx context.Context, f control.SnapshotFilter) ([]control.Snapshot, string, error) {
	page, err := pageOf(f.Limit, f.Cursor)
	if err != nil {
		return nil, "", err
	}
	stored, err := s.q.ListSnapshots(ctx, db.ListSnapshotsParams{
		SandboxID: optional(string(f.SandboxID)), Name: optional(f.Name),
		MaxRows: page.rows, BeforeCreated: page.beforeCreated, BeforeID: page.beforeID,
	})
	if err != nil {
		return nil, "", faultOf(err)
	}
	return firstRows(stored, f.Limit, fromSnapshots,
		func(row control.Snapshot) string { return cursorAfter(row.CreatedAt, string(row.ID)) })
}

// MoveSnapshot implements control.Store.
func (s *Store) MoveSnapshot(ctx context.Context, m control.SnapshotMove) (control.Snapshot, bool, error) {
	p := db.MoveSnapshotParams{ID: string(m.ID), ToStatus: string(m.To)}
	for _, from := range m.From {
		p.FromStatuses = append(p.FromStatuses, string(from))
	}
	if v := m.Observed; v != nil {
		bytes, users, window := int64(v.Bytes), int32(v.Users), v.PauseWindow.Microseconds()
		p.Bytes, p.Users, p.PauseWindowUs = &bytes, &users, &window
	}
	stored, err := s.q.MoveSnapshot(ctx, p)
	return s.snapshotWon(ctx, m.ID, stored, err)
}

// NameTemplate implements control.Store. It holds the lock of templates, one of which may
// have the name.
func (s *Store) NameTemplate(ctx context.Context, id sandbox.SnapshotID, name string) (control.Snapshot, bool, error) {
	var stored db.Snapshot
	err := s.Templates().locked(ctx, func(q *db.Queries) error {
		switch _, err := q.TemplateByName(ctx, name); {
		case err == nil:
			return fault.New(fault.Exists, "exists", "it exists already")
		case !errors.Is(err, pgx.ErrNoRows):
			return err
		}
		var err error
		stored, err = q.NameTemplate(ctx, db.NameTemplateParams{ID: string(id), TemplateName: optional(name)})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil // stored is the zero row
		}
		return err
	})
	if err == nil && stored.ID == "" {
		err = pgx.ErrNoRows
	}
	return s.snapshotWon(ctx, id, stored, err)
}

// snapshotWon is the end of a compare-and-set: the row as it has become, or as
// it is if it was another than expected.
func (s *Store) snapshotWon(ctx context.Context, id sandbox.SnapshotID, stored db.Snapshot, err error) (control.Snapshot, bool, error) {
	if errors.Is(err, pgx.ErrNoRows) {
		row, err := s.GetSnapshot(ctx, id)
		return row, false, err
	}
	row, err := snapshotOr(stored, err)
	return row, err == nil, err
}

// SnapshotsOf implements control.Store.
func (s *Store) SnapshotsOf(ctx context.Context, hostID string) ([]control.Snapshot, error) {
	stored, err := s.q.SnapshotsOfHost(ctx, hostID)
	if err != nil {
		return nil, faultOf(err)
	}
	return fromSnapshots(stored)
}

// MeasureSnapshot implements control.Store.
func (s *Store) MeasureSnapshot(ctx context.Context, v control.ObservedSnapshot) error {
	return faultOf(s.q.MeasureSnapshot(ctx, db.MeasureSnapshotParams{
		ID: string(v.ID), Bytes: int64(v.Bytes), Users: int32(v.Users),
	}))
}

// RemoveSnapshot implements control.Store.
func (s *Store) RemoveSnapshot(ctx context.Context, id sandbox.SnapshotID) error {
	return faultOf(s.q.RemoveSnapshot(ctx, string(id)))
}

// RemoveFailedSnapshots implements control.Store.
func (s *Store) RemoveFailedSnapshots(ctx context.Context, age time.Duration) error {
	return faultOf(s.q.RemoveFailedSnapshots(ctx, age.Seconds()))
}

// snapshotOr is fromSnapshot for the answer of a query for one row.
func snapshotOr(r db.Snapshot, err error) (control.Snapshot, error) {
	if errors.Is(err, pgx.ErrNoRows) {
		return control.Snapshot{}, fault.New(fault.NotFound, control.ReasonSnapshotNotFound, "there is no such snapshot")
	}
	if err != nil {
		return control.Snapshot{}, faultOf(err)
	}
	return fromSnapshot(r)
}

// fromSnapshot is the reading side of insertSnapshot.
func fromSnapshot(r db.Snapshot) (control.Snapshot, error) {
	row := control.Snapshot{
		ID: sandbox.SnapshotID(r.ID), Kind: control.SnapshotKind(r.Kind), Status: control.SnapshotStatus(r.Status),
		Name: r.Name, HostID: r.HostID, DiskOnly: r.DiskOnly,
		Of: sandbox.Ref{ID: sandbox.ID(r.SandboxID), Generation: sandbox.Generation(r.Generation)},
		Spec: sandbox.Spec{
			Template: r.Template, VCPUs: int(r.Vcpus), MemoryMB: int(r.MemoryMb), DiskMB: int(r.DiskMb), Runtime: sandbox.Runtime(r.Runtime),
			TemplateID: r.TemplateID, TemplateRef: r.TemplateRef, User: r.DefaultUser, Workdir: r.DefaultDir,
		},
		Bytes: uint64(r.Bytes), Users: int(r.Users), PauseWindow: time.Duration(r.PauseWindowUs) * time.Microsecond,
		CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(),
	}
	if r.TemplateName != nil {
		row.TemplateName = *r.TemplateName
	}
	if err := json.Unmarshal(r.Metadata, &row.Metadata); err != nil {
		return control.Snapshot{}, fault.Wrap(err, fault.Internal, "database_error", "the snapshot's metadata cannot be read")
	}
	return row, nil
}

func fromSnapshots(stored []db.Snapshot) ([]control.Snapshot, error) {
	rows := make([]control.Snapshot, 0, len(stored))
	for _, r := range stored {
		row, err := fromSnapshot(r)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}
