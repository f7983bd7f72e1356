package control

import (
	"sync"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// pendingTransition is a pause or a resume that this process has in flight.
// Other callers wait on it for the outcome.
type pendingTransition struct {
	// to is the target state: Paused or Running.
	to sandbox.State
	// done is closed by end, after row and err have been set.
	done chan struct{}
	row  Sandbox
	err  error
}

// transitions holds the pauses and resumes that are in flight in this process,
// so that waiters need not poll the database. It does not exclude anything: the
// compare-and-set lets one of several transitions through, also between processes.
//
// Invariants: a sandbox has at most one entry; the caller of begin that got mine
// true calls end.
type transitions struct {
	mu sync.Mutex // protects the following
	of map[sandbox.ID]*pendingTransition
}

func newTransitions() *transitions { return &transitions{of: make(map[sandbox.ID]*pendingTransition)} }

// begin registers a transition. If one is in flight, it returns that one, with
// mine false.
func (m *transitions) begin(id sandbox.ID, to sandbox.State) (pending *pendingTransition, mine bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if pending = m.of[id]; pending != nil {
		return pending, false
	}
	pending = &pendingTransition{to: to, done: make(chan struct{})}
	m.of[id] = pending
	return pending, true
}

// get returns the transition in flight, or nil.
func (m *transitions) get(id sandbox.ID) *pendingTransition {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.of[id]
}

// end publishes the outcome of pending to its waiters.
func (m *transitions) end(id sandbox.ID, pending *pendingTransition, row Sandbox, err error) {
	m.mu.Lock()
	delete(m.of, id)
	m.mu.Unlock()
	pending.row, pending.err = row, err
	close(pending.done)
}
