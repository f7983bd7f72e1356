package memstore

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Insert implements control.Store. Its commit is relaxed.
func (s *Store) Insert(_ context.Context, row control.Sandbox) (control.Sandbox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows, err := s.insert([]control.Sandbox{row})
	if err != nil {
		return control.Sandbox{}, err
	}
	s.commitRelaxed(row.ID, nil)
	return rows[0], nil
}

// InsertFork implements control.Store.
func (s *Store) InsertFork(_ context.Context, snap control.Snapshot, rows []control.Sandbox) ([]control.Sandbox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.snaps[snap.ID]; taken {
		return nil, fault.New(fault.Exists, "exists", "it exists already")
	}
	inserted, err := s.insert(rows)
	if err != nil {
		return nil, err
	}
	s.insertSnapshot(snap)
	s.commit()
	return inserted, nil
}

// insert writes rows, which are on one host, or none. The caller holds mu.
func (s *Store) insert(rows []control.Sandbox) ([]control.Sandbox, error) {
	need := control.Capacity{VCPUs: len(rows) * rows[0].Spec.VCPUs, MemoryMB: len(rows) * rows[0].Spec.MemoryMB}
	if _, known := s.hosts[rows[0].HostID]; !known {
		return nil, fault.New(fault.NoCapacity, control.ReasonHostNotRecorded, "the host is not ready yet; try again later")
	}
	if !s.fits(rows[0].HostID, need) {
		return nil, noCapacity()
	}
	for _, row := range rows {
		if _, taken := s.rows[row.ID]; taken {
			return nil, fault.New(fault.Exists, "exists", "it exists already")
		}
		if row.Name != "" && s.nameTaken(row.Name) {
			return nil, fault.New(fault.Exists, control.ReasonNameTaken, "another sandbox that has not ended has this name")
		}
	}
	out := make([]control.Sandbox, len(rows))
	for i, row := range rows {
		row = newRow(row, s.timestamp())
		s.rows[row.ID], s.place[string(row.ID)] = row, len(s.place)
		out[i] = copyOf(row)
	}
	return out, nil
}

// newRow returns row with only the columns that an insertion writes.
func newRow(row control.Sandbox, now time.Time) control.Sandbox {
	spec := row.Spec
	spec.Env, spec.EnvdToken = nil, ""
	spec.Timeout, spec.Lifetime = wholeSeconds(spec.Timeout), wholeSeconds(spec.Lifetime)
	return control.Sandbox{
		ID: row.ID, Name: row.Name, Generation: row.Generation, State: row.State, Spec: spec,
		HostID: row.HostID, Acceleration: row.Acceleration, Isolation: row.Isolation, Metadata: metadataOf(row.Metadata),
		SnapshotID: row.SnapshotID, ParentID: row.ParentID, BuildID: row.BuildID, Server: row.Server, CreatedAt: now, UpdatedAt: now,
	}
}

func (s *Store) nameTaken(name string) bool {
	for _, row := range s.rows {
		if row.Name == name && !row.State.Ended() {
			return true
		}
	}
	return false
}

// fits reports whether a host can carry need on top of its rows. The caller holds mu.
func (s *Store) fits(hostID string, need control.Capacity) bool {
	used, total := s.usage()[hostID], s.hosts[hostID]
	return used.VCPUs+need.VCPUs <= total.VCPUs && used.MemoryMB+need.MemoryMB <= total.MemoryMB
}

func (s *Store) usage() map[string]control.Capacity {
	out := make(map[string]control.Capacity)
	for _, row := range s.rows {
		if row.State.Holds() {
			c := out[row.HostID]
			out[row.HostID] = control.Capacity{VCPUs: c.VCPUs + row.Spec.VCPUs, MemoryMB: c.MemoryMB + row.Spec.MemoryMB}
		}
	}
	return out
}

func noCapacity() error {
	return fault.New(fault.NoCapacity, "no_capacity", "the host has no capacity for this now; try again later")
}

// Get implements control.Store.
func (s *Store) Get(_ context.Context, id sandbox.ID) (control.Sandbox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.get(id)
}

func (s *Store) get(id sandbox.ID) (control.Sandbox, error) {
	row, ok := s.rows[id]
	if !ok {
		return control.Sandbox{}, fault.New(fault.NotFound, control.ReasonSandboxNotFound, "there is no sandbox with this id")
	}
	return copyOf(row), nil
}

// Move implements control.Store. A move to Pausing is relaxed.
func (s *Store) Move(_ context.Context, m control.Move) (control.Sandbox, bool, error) {
	if !sandbox.CanMove(m.From, m.To) {
		return control.Sandbox{}, false, fault.New(fault.Internal, "illegal_move", "a sandbox cannot go from %s to %s", m.From, m.To)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	was, err := s.get(m.Ref.ID)
	if err != nil || was.State != m.From || was.Generation != m.Ref.Generation {
		return was, false, err
	}
	row := s.moved(was, m)
	s.rows[row.ID] = row
	if m.To == sandbox.Resuming && !s.fits(row.HostID, control.Capacity{}) {
		s.rows[row.ID] = was
		return control.Sandbox{}, false, noCapacity()
	}
	if m.To == sandbox.Pausing {
		s.commitRelaxed(row.ID, &was)
	} else {
		s.commit()
	}
	return copyOf(row), true, nil
}

// moved returns row after m.
func (s *Store) moved(row control.Sandbox, m control.Move) control.Sandbox {
	now := s.timestamp()
	row.State, row.Generation, row.Server, row.DiskFull, row.UpdatedAt = m.To, m.Next(), m.Server, false, now
	row.StopReason, row.Message = cmp.Or(m.StopReason, row.StopReason), cmp.Or(m.Message, row.Message)
	if keep := m.To == sandbox.Pausing || m.To == sandbox.Running && m.Runtime == nil; !keep {
		row.LifetimeEndsAt = nil
	}
	if !m.To.Ended() {
		row.EndedAt = nil
	} else if row.EndedAt == nil {
		row.EndedAt = &now
	}
	row.LastActiveAt = later(row.LastActiveAt, optionalTime(m.ActiveAt))
	if f := m.Runtime; f != nil {
		row.GuestIP, row.HostIP = cmp.Or(f.GuestIP, row.GuestIP), cmp.Or(f.HostIP, row.HostIP)
		row.Acceleration, row.Isolation = cmp.Or(f.Acceleration, row.Acceleration), cmp.Or(f.Isolation, row.Isolation)
		row.LastActiveAt = later(row.LastActiveAt, optionalTime(f.StartedAt))
		row.StartedAt = cmp.Or(optionalTime(f.StartedAt), row.StartedAt)
		row.Source, row.RestoreReport = cmp.Or(f.Source, row.Source), cmp.Or(f.RestoreReport, row.RestoreReport)
		row.LifetimeEndsAt = optionalTime(f.LifetimeEndsAt)
	}
	return copyOf(row)
}

// later returns the later of two times; nil is earlier than any.
func later(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.After(*a) {
		return b
	}
	return a
}

// SetClocks implements control.Store.
func (s *Store) SetClocks(_ context.Context, c control.ClockChange) (control.Sandbox, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	row, err := s.get(c.Was.ID)
	if err != nil || !sameClocks(row, c.Was) {
		return row, false, err
	}
	row.Spec.Timeout, row.Spec.Lifetime = wholeSeconds(c.Timeouts.Idle), wholeSeconds(c.Timeouts.Lifetime)
	row.Spec.OnTimeout = c.Timeouts.OnTimeout
	row.Spec.AutoResume, row.LifetimeEndsAt = c.AutoResume, storedPointer(c.LifetimeEndsAt)
	s.rows[row.ID] = copyOf(row)
	s.commit()
	return row, true, nil
}

// sameClocks reports whether row is in the incarnation and state of was, with its clocks.
func sameClocks(row, was control.Sandbox) bool {
	return row.Generation == was.Generation && row.State == was.State &&
		row.Spec.Timeout == wholeSeconds(was.Spec.Timeout) && row.Spec.Lifetime == wholeSeconds(was.Spec.Lifetime) &&
		row.Spec.OnTimeout == was.Spec.OnTimeout &&
		row.Spec.AutoResume == was.Spec.AutoResume && sameTime(row.LifetimeEndsAt, storedPointer(was.LifetimeEndsAt))
}

// SetEgress implements control.Store.
func (s *Store) SetEgress(_ context.Context, c control.EgressChange) (control.Sandbox, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	row, err := s.get(c.Was.ID)
	same := row.Generation == c.Was.Generation && row.State == c.Was.State && row.Spec.Egress.Equal(c.Was.Spec.Egress)
	if err != nil || !same {
		return row, false, err
	}
	row.Spec.Egress = c.Egress
	s.rows[row.ID] = copyOf(row)
	s.commit()
	return row, true, nil
}

func sameTime(a, b *time.Time) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(*b)
}

// SaveRuntime implements control.Store.
func (s *Store) SaveRuntime(_ context.Context, v control.ObservedSandbox) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	row, ok := s.rows[v.Ref.ID]
	if !ok || row.Generation != v.Ref.Generation || row.State != sandbox.Running {
		return nil
	}
	row.StartedAt = cmp.Or(optionalTime(v.Runtime.StartedAt), row.StartedAt)
	row.Source, row.RestoreReport = cmp.Or(v.Runtime.Source, row.Source), cmp.Or(v.Runtime.RestoreReport, row.RestoreReport)
	row.DiskFull = v.Runtime.DiskFull
	if row.Spec.Lifetime == wholeSeconds(v.Spec.Lifetime) {
		row.LifetimeEndsAt = optionalTime(v.Runtime.LifetimeEndsAt)
	}
	s.rows[row.ID] = copyOf(row)
	s.commit()
	return nil
}

// Unended implements control.Store.
func (s *Store) Unended(_ context.Context, hostID string) ([]control.Sandbox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []control.Sandbox{}
	for _, row := range s.rows {
		if row.HostID == hostID && row.EndedAt == nil {
			out = append(out, copyOf(row))
		}
	}
	slices.SortFunc(out, func(a, b control.Sandbox) int { return s.byPlace(string(a.ID), string(b.ID)) })
	return out, nil
}

// Touch implements control.Store.
func (s *Store) Touch(_ context.Context, seen map[sandbox.ID]time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, at := range seen {
		if row, ok := s.rows[id]; ok {
			row.LastActiveAt = later(row.LastActiveAt, storedPointer(&at))
			s.rows[id] = row
		}
	}
	s.commit()
	return nil
}

// DeleteEnded implements control.Store.
func (s *Store) DeleteEnded(_ context.Context, age time.Duration, limit int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var old []control.Sandbox
	for _, row := range s.rows {
		if row.EndedAt != nil && !row.EndedAt.After(s.timestamp().Add(-age)) {
			old = append(old, row)
		}
	}
	slices.SortFunc(old, func(a, b control.Sandbox) int { return a.EndedAt.Compare(*b.EndedAt) })
	old = old[:min(len(old), limit)]
	for _, row := range old {
		delete(s.rows, row.ID)
	}
	s.commit()
	return len(old), nil
}

// Machines implements control.Store.
func (s *Store) Machines(_ context.Context, build string) ([]control.Sandbox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []control.Sandbox{}
	for _, row := range s.rows {
		if row.BuildID != "" && (build == "" || row.BuildID == build) && !row.State.Ended() {
			out = append(out, copyOf(row))
		}
	}
	slices.SortFunc(out, func(a, b control.Sandbox) int { return s.byPlace(string(a.ID), string(b.ID)) })
	return out, nil
}
