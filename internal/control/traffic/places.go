package traffic

import (
	"sync"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// places counts the requests and raw connections to each sandbox.
//
// Invariants: counts are from 1 to limit; the caller of take calls leave once.
type places struct {
	limit int

	mu   sync.Mutex // protects the following
	open map[sandbox.ID]int
}

// take returns an error if there is no place.
func (p *places) take(id sandbox.ID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[id] >= p.limit {
		return fault.New(fault.Quota, reasonConnections,
			"sandbox %s has %d open connections to its ports; close some, or try again later", id, p.limit)
	}
	p.open[id]++
	return nil
}

func (p *places) leave(id sandbox.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[id]--; p.open[id] == 0 {
		delete(p.open, id)
	}
}
