package traffic

import (
	"sync"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// places counts the requests and raw connections to each sandbox, by the kind of caller.
//
// Invariants: counts are at least 1; each take that succeeds is followed by one leave.
type places struct {
	mu   sync.Mutex // protects the following
	open map[place]int
}

// place is a pool of places.
type place struct {
	id     sandbox.ID
	caller caller
}

// take returns an error if limit places of the pool are taken.
func (p *places) take(at place, limit int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[at] >= limit {
		return fault.New(fault.Quota, reasonConnections,
			"sandbox %s has %d open connections to its ports; close some, or try again later", at.id, limit)
	}
	p.open[at]++
	return nil
}

func (p *places) leave(at place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[at]--; p.open[at] == 0 {
		delete(p.open, at)
	}
}
