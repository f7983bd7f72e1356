package process

import (
	"sync"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Kind is the stream that output came from.
type Kind uint8

// The kinds of output.
const (
	Stdout Kind = iota + 1
	Stderr
	Terminal
)

// Output is one piece of a command's output. Several subscriptions share
// Data: it must not be changed.
type Output struct {
	Kind Kind
	Data []byte
}

// hub hands a command's output to its subscriptions.
//
// Invariants: an attached subscription gets every piece published after it
// attached, in the order of its kind; publish waits for slow subscriptions and
// drops a piece only if no subscription is attached; after close no piece is
// published and every subscription's channel is closed.
type hub struct {
	mu     sync.Mutex // protects the following
	subs   map[*Subscription]struct{}
	closed bool
}

// Subscription is one reader of a command's output.
type Subscription struct {
	hub  *hub
	out  chan Output
	gone chan struct{}
	once sync.Once
}

// backlog is the number of pieces that a subscription queues before the command
// has to wait.
const backlog = 4

func newHub() *hub { return &hub{subs: make(map[*Subscription]struct{})} }

// subscribe attaches a new reader. After close its channel is closed already.
func (h *hub) subscribe() (*Subscription, error) {
	s := &Subscription{hub: h, out: make(chan Output, backlog), gone: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(s.out)
		return s, nil
	}
	if len(h.subs) >= MaxSubscribers {
		return nil, fault.New(fault.Quota, "too_many_readers", "a process may have at most %d readers at once", MaxSubscribers)
	}
	h.subs[s] = struct{}{}
	return s, nil
}

// attached returns the current subscriptions.
func (h *hub) attached() []*Subscription {
	h.mu.Lock()
	defer h.mu.Unlock()
	subs := make([]*Subscription, 0, len(h.subs))
	for s := range h.subs {
		subs = append(subs, s)
	}
	return subs
}

// publish copies data to every attached subscription and returns when each
// has taken it or has detached.
func (h *hub) publish(kind Kind, data []byte) {
	subs := h.attached()
	if len(subs) == 0 {
		return
	}
	piece := Output{Kind: kind, Data: append([]byte(nil), data...)}
	for _, s := range subs {
		select {
		case s.out <- piece:
		case <-s.gone:
		}
	}
}

// close ends every subscription. It must come after the last publish.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for s := range h.subs {
		close(s.out)
	}
	h.subs = nil
}

// Output returns the channel of pieces. It is closed, by the process, when the
// command has ended and everything was delivered.
func (s *Subscription) Output() <-chan Output { return s.out }

// Detach stops delivery. The command continues. It is idempotent.
func (s *Subscription) Detach() {
	s.once.Do(func() {
		close(s.gone)
		s.hub.mu.Lock()
		defer s.hub.mu.Unlock()
		delete(s.hub.subs, s)
	})
}
