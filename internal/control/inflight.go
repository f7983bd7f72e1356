package control

import (
	"sync"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// An operation of the control plane writes a row, calls the host and writes the
// row again. If its server dies in between, or the outcome stays unknown, the
// row is left in a state in between. The reconciler may take such a row at once
// when it knows that the operation is over: the row's server has ended, or it is
// this server, which has no operation in flight for the sandbox.

// inFlight counts the operations of this process, by sandbox.
//
// Invariants: counts are positive; the caller of begin calls the function that it
// returns.
type inFlight struct {
	mu    sync.Mutex // protects the following
	count map[sandbox.ID]int
}

func newInFlight() *inFlight { return &inFlight{count: make(map[sandbox.ID]int)} }

// begin counts an operation on ids until the function that it returns is called.
func (f *inFlight) begin(ids ...sandbox.ID) (end func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		f.count[id]++
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, id := range ids {
			if f.count[id]--; f.count[id] == 0 {
				delete(f.count, id)
			}
		}
	}
}

// all returns the sandboxes with an operation.
func (f *inFlight) all() map[sandbox.ID]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[sandbox.ID]bool, len(f.count))
	for id := range f.count {
		out[id] = true
	}
	return out
}

// transitional reports whether state is one that only an operation explains.
func transitional(state sandbox.State) bool {
	switch state {
	case sandbox.Pending, sandbox.Pausing, sandbox.Resuming, sandbox.Stopping:
		return true
	default:
		return false
	}
}
