package control

import (
	"sync"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// passRequests are the requests for a pass over a host, by its id. One request stands
// for many.
type passRequests struct {
	mu sync.Mutex // protects the following
	of map[string]chan struct{}
}

func newPassRequests() *passRequests { return &passRequests{of: make(map[string]chan struct{})} }

// channel returns the channel on which requests for a host arrive.
func (p *passRequests) channel(hostID string) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	ch := p.of[hostID]
	if ch == nil {
		ch = make(chan struct{}, 1)
		p.of[hostID] = ch
	}
	return ch
}

// request asks for a pass over a host.
func (p *passRequests) request(hostID string) {
	select {
	case p.channel(hostID) <- struct{}{}:
	default:
	}
}

// requestAfter asks for a pass over a host if an operation that has ended with err
// may have left its row in a transitional state: its outcome is unknown, or the host
// failed and could not be asked for the sandbox's state. The caller must have ended
// the operation's entry in inFlight, or the reconciler leaves the row alone.
func (p *passRequests) requestAfter(hostID string, err error) {
	if hostID == "" || err == nil {
		return
	}
	switch fault.KindOf(err) {
	case fault.HostFailed, fault.Timeout, fault.Unavailable, fault.Internal, fault.Canceled:
		p.request(hostID)
	default:
		if OutcomeUnknown(err) {
			p.request(hostID)
		}
	}
}
