package memstore

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Store is a database in memory. It is safe for concurrent use. Rows that go in
// and come out are copies.
type Store struct {
	now func() time.Time

	mu       sync.Mutex // protects the following
	hosts    map[string]control.Capacity
	rows     map[sandbox.ID]control.Sandbox
	snaps    map[sandbox.SnapshotID]control.Snapshot
	place    map[string]int                     // the order of insertion, by id
	sessions map[control.ServerID]chan struct{} // closed by Crash
	tmpl     templateRows
	// relaxed undoes the commits since the last durable one, oldest first. A
	// durable commit makes all earlier ones durable.
	relaxed []undo
}

// undo restores one row as it was before a relaxed commit; nil is no row.
type undo struct {
	id  sandbox.ID
	row *control.Sandbox
}

var _ control.Store = (*Store)(nil)

// New returns an empty Store whose timestamps come from now.
func New(now func() time.Time) *Store {
	return &Store{
		now: now, hosts: make(map[string]control.Capacity), rows: make(map[sandbox.ID]control.Sandbox),
		snaps: make(map[sandbox.SnapshotID]control.Snapshot), sessions: make(map[control.ServerID]chan struct{}),
		place: make(map[string]int), tmpl: newTemplateRows(),
	}
}

// Crash undoes the newest commits that did not wait for the disk, except for the
// oldest keep of them, and ends every session. It returns the ids of the rows
// that it changed.
func (s *Store) Crash(keep int) []sandbox.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lost []sandbox.ID
	for i := len(s.relaxed) - 1; i >= keep; i-- {
		u := s.relaxed[i]
		if lost = append(lost, u.id); u.row == nil {
			delete(s.rows, u.id)
		} else {
			s.rows[u.id] = *u.row
		}
	}
	s.relaxed = nil
	for id, session := range s.sessions {
		close(session)
		delete(s.sessions, id)
	}
	return lost
}

// Relaxed returns the number of commits that a Crash may undo.
func (s *Store) Relaxed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.relaxed)
}

// byPlace orders ids by their insertion, so that two runs of one test see one
// order although ids are random. The caller holds mu.
func (s *Store) byPlace(a, b string) int { return cmp.Compare(s.place[a], s.place[b]) }

// Rows returns all sandboxes, oldest first.
func (s *Store) Rows() []control.Sandbox {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]control.Sandbox, 0, len(s.rows))
	for _, row := range s.rows {
		out = append(out, copyOf(row))
	}
	slices.SortFunc(out, func(a, b control.Sandbox) int { return s.byPlace(string(a.ID), string(b.ID)) })
	return out
}

// commit ends a durable change. The caller holds mu.
func (s *Store) commit() { s.relaxed = nil }

// commitRelaxed ends a change of row id that does not wait for the disk. was is
// the row before, nil if there was none. The caller holds mu.
func (s *Store) commitRelaxed(id sandbox.ID, was *control.Sandbox) {
	s.relaxed = append(s.relaxed, undo{id, was})
}

// timestamp returns the time with the precision of a timestamptz.
func (s *Store) timestamp() time.Time { return stored(s.now()) }

func stored(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func storedPointer(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	c := stored(*t)
	return &c
}

// optionalTime returns nil for the zero time.
func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return storedPointer(&t)
}

// wholeSeconds rounds up, as the columns do.
func wholeSeconds(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}

// metadataOf is a copy as jsonb returns it: an object, also for nil.
func metadataOf(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return maps.Clone(m)
}

// copyOf returns a copy of row that shares nothing that can be changed.
func copyOf(row control.Sandbox) control.Sandbox {
	row.Metadata = metadataOf(row.Metadata)
	row.StartedAt, row.LastActiveAt = storedPointer(row.StartedAt), storedPointer(row.LastActiveAt)
	row.EndedAt, row.LifetimeEndsAt = storedPointer(row.EndedAt), storedPointer(row.LifetimeEndsAt)
	if row.RestoreReport != nil {
		h := *row.RestoreReport
		h.Steps = maps.Clone(h.Steps)
		row.RestoreReport = &h
	}
	return row
}
