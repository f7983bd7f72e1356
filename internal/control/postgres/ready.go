package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

const (
	// probeFresh is how long a successful probe is believed, so that many who
	// ask cost one write a second.
	probeFresh = time.Second
	// failureFresh is how long a write that the server failed to make counts
	// against readiness. A write that succeeds afterwards ends it at once.
	failureFresh = 5 * time.Second
)

// writeHealth remembers how writes came out lately. It is safe for concurrent
// use.
//
// Invariants: only the goroutine that holds the token of turn probes.
type writeHealth struct {
	turn chan struct{}

	mu       sync.Mutex // protects the following
	probed   time.Time  // the last successful probe
	failedAt time.Time
	failure  error // nil once a write has succeeded since
}

func newWriteHealth() *writeHealth {
	h := &writeHealth{turn: make(chan struct{}, 1)}
	h.turn <- struct{}{}
	return h
}

// note records the outcome of a write and returns it. Only failures of the
// database count: a full host or a missing row is no failure.
func (h *writeHealth) note(err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		h.failure = nil
	case fault.ReasonOf(err) == reasonUnavailable:
		h.failedAt, h.failure, h.probed = time.Now(), err, time.Time{}
	}
	return err
}

// recent returns the failure of a write a short time ago, or nil. probed
// reports whether the last probe is still to be believed.
func (h *writeHealth) recent(now time.Time) (failure error, probed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failure != nil && now.Sub(h.failedAt) < failureFresh {
		return h.failure, false
	}
	return nil, now.Sub(h.probed) < probeFresh
}

func (h *writeHealth) probedAt(at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.probed = at
}

// Ping implements control.Store. It writes a row that needs a new page of its
// table, and waits until that is on disk.
func (s *Store) Ping(ctx context.Context) error {
	select {
	case <-s.writes.turn:
		defer func() { s.writes.turn <- struct{}{} }()
	case <-ctx.Done():
		return fault.As(ctx.Err())
	}
	now := time.Now()
	if failure, probed := s.writes.recent(now); failure != nil || probed {
		return failure
	}
	if err := s.q.ProbeWrite(ctx); err != nil {
		return faultOf(err)
	}
	s.writes.probedAt(now)
	return nil
}
