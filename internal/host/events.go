package host

import "sync"

// eventBuffer is how many changes a subscriber may be behind before it is cut
// off; it then lists and subscribes again.
const eventBuffer = 256

// broadcaster passes changes on to subscribers without ever waiting for one.
type broadcaster struct {
	mu   sync.Mutex // protects the following
	subs map[chan Sandbox]struct{}
}

// subscribe returns a channel of all changes from now on. It is closed when
// the subscriber has fallen behind or cancel was called.
func (b *broadcaster) subscribe() (<-chan Sandbox, func()) {
	ch := make(chan Sandbox, eventBuffer)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.subs == nil {
		b.subs = make(map[chan Sandbox]struct{})
	}
	b.subs[ch] = struct{}{}
	return ch, func() { b.drop(ch) }
}

func (b *broadcaster) drop(ch chan Sandbox) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.subs[ch]; ok {
		delete(b.subs, ch)
		close(ch)
	}
}

func (b *broadcaster) publish(s Sandbox) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for ch := range b.subs {
		select {
		case ch <- s:
		default:
			delete(b.subs, ch)
			close(ch)
		}
	}
}
