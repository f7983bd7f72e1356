package memstore

import (
	"context"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// SaveHost implements control.Store.
func (s *Store) SaveHost(_ context.Context, h control.HostInfo, c control.Capacity) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts[h.ID] = c
	s.commit()
	return nil
}

// Capacity returns the capacity that SaveHost recorded for a host.
func (s *Store) Capacity(hostID string) control.Capacity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hosts[hostID]
}

// Usage implements control.Store.
func (s *Store) Usage(context.Context) (map[string]control.Capacity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.usage(), nil
}

// Ping implements control.Store.
func (s *Store) Ping(context.Context) error { return nil }

// HoldServer implements control.Store.
func (s *Store) HoldServer(ctx context.Context, id control.ServerID, held func()) error {
	s.mu.Lock()
	if _, live := s.sessions[id]; live {
		s.mu.Unlock()
		return fault.New(fault.Internal, "database_error", "server %d is live already", id)
	}
	session := make(chan struct{})
	s.sessions[id] = session
	s.mu.Unlock()
	held()
	select {
	case <-ctx.Done():
	case <-session:
		return fault.New(fault.Unavailable, "database_unavailable", "the session has ended")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[id] == session {
		delete(s.sessions, id)
	}
	return fault.As(ctx.Err())
}

// LiveServers implements control.Store.
func (s *Store) LiveServers(_ context.Context, ids []control.ServerID) ([]control.ServerID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	live := []control.ServerID{}
	for _, id := range ids {
		if _, ok := s.sessions[id]; ok {
			live = append(live, id)
		}
	}
	return live, nil
}
