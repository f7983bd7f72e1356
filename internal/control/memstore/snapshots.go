package memstore

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// InsertSnapshot implements control.Store.
func (s *Store) InsertSnapshot(_ context.Context, row control.Snapshot, q control.SnapshotQuota) (control.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	count, bytes := 0, uint64(0)
	for _, other := range s.snaps {
		if other.Kind == control.KindNamed && other.Status != control.SnapshotError {
			count, bytes = count+1, bytes+other.Bytes
		}
	}
	if count >= q.Count || q.Bytes > 0 && bytes >= q.Bytes {
		return control.Snapshot{}, fault.New(fault.Quota, control.ReasonSnapshotQuota,
			"there are %d snapshots of %d bytes, which is as much as there may be; delete some", count, bytes)
	}
	if _, taken := s.snaps[row.ID]; taken {
		return control.Snapshot{}, fault.New(fault.Exists, "exists", "it exists already")
	}
	s.commit()
	return s.insertSnapshot(row), nil
}

// insertSnapshot writes the columns that an insertion writes. The caller holds mu.
func (s *Store) insertSnapshot(row control.Snapshot) control.Snapshot {
	now := s.timestamp()
	row = control.Snapshot{
		ID: row.ID, Kind: row.Kind, Status: row.Status, Name: row.Name, Of: row.Of, HostID: row.HostID,
		DiskOnly: row.DiskOnly,
		Spec: sandbox.Spec{
			Template: row.Spec.Template, VCPUs: row.Spec.VCPUs, MemoryMB: row.Spec.MemoryMB, DiskMB: row.Spec.DiskMB,
			Runtime: row.Spec.Runtime, TemplateID: row.Spec.TemplateID, TemplateRef: row.Spec.TemplateRef,
			User: row.Spec.User, Workdir: row.Spec.Workdir,
		},
		Metadata: metadataOf(row.Metadata), CreatedAt: now, UpdatedAt: now,
	}
	s.snaps[row.ID], s.place[string(row.ID)] = row, len(s.place)
	return copySnapshot(row)
}

func copySnapshot(row control.Snapshot) control.Snapshot {
	row.Metadata = maps.Clone(row.Metadata)
	return row
}

// GetSnapshot implements control.Store.
func (s *Store) GetSnapshot(_ context.Context, id sandbox.SnapshotID) (control.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.getSnapshot(id)
}

func (s *Store) getSnapshot(id sandbox.SnapshotID) (control.Snapshot, error) {
	row, ok := s.snaps[id]
	if !ok {
		return control.Snapshot{}, noSnapshot()
	}
	return copySnapshot(row), nil
}

func noSnapshot() error {
	return fault.New(fault.NotFound, control.ReasonSnapshotNotFound, "there is no snapshot with this id")
}

// TemplateSnapshot implements control.Store.
func (s *Store) TemplateSnapshot(_ context.Context, name string) (control.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, row := range s.snaps {
		if name != "" && row.TemplateName == name {
			return copySnapshot(row), nil
		}
	}
	return control.Snapshot{}, noSnapshot()
}

// MoveSnapshot implements control.Store.
func (s *Store) MoveSnapshot(_ context.Context, m control.SnapshotMove) (control.Snapshot, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	row, err := s.getSnapshot(m.ID)
	if err != nil || !slices.Contains(m.From, row.Status) || row.TemplateName != "" && m.To == control.SnapshotDeleting {
		return row, false, err
	}
	row.Status, row.UpdatedAt = m.To, s.timestamp()
	if m.To != control.SnapshotReady {
		row.TemplateName = ""
	}
	if v := m.Observed; v != nil {
		row.Bytes, row.Users, row.PauseWindow = v.Bytes, v.Users, v.PauseWindow.Truncate(time.Microsecond)
	}
	s.snaps[row.ID] = row
	s.commit()
	return copySnapshot(row), true, nil
}

// NameTemplate implements control.Store.
func (s *Store) NameTemplate(_ context.Context, id sandbox.SnapshotID, name string) (control.Snapshot, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	row, err := s.getSnapshot(id)
	if err != nil || row.Kind != control.KindNamed || name != "" && row.Status != control.SnapshotReady {
		return row, false, err
	}
	if _, taken := s.templateNamed(name); taken || name != "" && s.snapshotNamed(name, id) {
		return control.Snapshot{}, false, fault.New(fault.Exists, "exists", "it exists already")
	}
	row.TemplateName = name
	s.snaps[id] = row
	s.commit()
	return copySnapshot(row), true, nil
}

// SnapshotsOf implements control.Store.
func (s *Store) SnapshotsOf(_ context.Context, hostID string) ([]control.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []control.Snapshot{}
	for _, row := range s.snaps {
		if row.HostID == hostID {
			out = append(out, copySnapshot(row))
		}
	}
	slices.SortFunc(out, func(a, b control.Snapshot) int { return s.byPlace(string(a.ID), string(b.ID)) })
	return out, nil
}

// MeasureSnapshot implements control.Store.
func (s *Store) MeasureSnapshot(_ context.Context, v control.ObservedSnapshot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if row, ok := s.snaps[v.ID]; ok {
		row.Bytes, row.Users = v.Bytes, v.Users
		s.snaps[v.ID] = row
	}
	s.commit()
	return nil
}

// RemoveSnapshot implements control.Store.
func (s *Store) RemoveSnapshot(_ context.Context, id sandbox.SnapshotID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.snaps, id)
	s.commit()
	return nil
}

// RemoveFailedSnapshots implements control.Store.
func (s *Store) RemoveFailedSnapshots(_ context.Context, age time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, row := range s.snaps {
		if row.Status == control.SnapshotError && !row.UpdatedAt.After(s.timestamp().Add(-age)) {
			delete(s.snaps, id)
		}
	}
	s.commit()
	return nil
}
