package control

import (
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// firstPassLimit bounds the time for which a server that has just started reports
// that it is not ready because of its first pass.
const firstPassLimit = 10 * time.Second

// firstPasses records which hosts the reconciler of this process has made a pass
// over. Until the first pass a row may show a state that its sandbox left while no
// server ran.
type firstPasses struct {
	mu        sync.Mutex // protects the following
	startedAt time.Time  // zero until the reconciler runs
	made      map[string]bool
	over      bool // ready has returned nil, and does from then on
}

func newFirstPasses() *firstPasses { return &firstPasses{made: make(map[string]bool)} }

// start records that the reconciler runs from now on.
func (f *firstPasses) start() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.startedAt = time.Now()
}

// record notes that a pass over a host has succeeded.
func (f *firstPasses) record(hostID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.made[hostID] = true
}

// ready returns an Unavailable fault until every reachable one of hosts has had its
// first pass, or the reconciler has run for firstPassLimit.
func (f *firstPasses) ready(hosts []HostInfo) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over || !f.startedAt.IsZero() && time.Since(f.startedAt) >= firstPassLimit {
		return nil
	}
	for _, h := range hosts {
		if h.Reachable && !f.made[h.ID] {
			return fault.New(fault.Unavailable, "first_pass_pending",
				"the server has just started and is comparing the database with host %s; try again in a moment", h.ID)
		}
	}
	f.over = len(f.made) > 0 // a host that joins later is no reason to take the server out
	return nil
}
