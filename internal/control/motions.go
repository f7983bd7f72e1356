package control

import (
	"sync"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// motion is a pause or a resume that this process has under way, for those who
// wait for its outcome.
type motion struct {
	// to is where it leads: Paused or Running.
	to sandbox.State
	// done is closed by end, after row and err have been set.
	done chan struct{}
	row  Sandbox
	err  error
}

// motions are the pauses and resumes under way in this process. They save
// waiters from asking the database; that only one is made of many is the
// compare-and-set's doing, and holds between processes too.
//
// Invariants: at most one motion per sandbox; whoever began one ends it.
type motions struct {
	mu sync.Mutex // protects the following
	of map[sandbox.ID]*motion
}

func newMotions() *motions { return &motions{of: make(map[sandbox.ID]*motion)} }

// begin registers a motion, or returns the one that there is with mine false.
func (m *motions) begin(id sandbox.ID, to sandbox.State) (mo *motion, mine bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if mo = m.of[id]; mo != nil {
		return mo, false
	}
	mo = &motion{to: to, done: make(chan struct{})}
	m.of[id] = mo
	return mo, true
}

// get returns the motion under way, or nil.
func (m *motions) get(id sandbox.ID) *motion {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.of[id]
}

// end tells all who wait for mo how it came out.
func (m *motions) end(id sandbox.ID, mo *motion, row Sandbox, err error) {
	m.mu.Lock()
	delete(m.of, id)
	m.mu.Unlock()
	mo.row, mo.err = row, err
	close(mo.done)
}
