package host

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Waits between two attempts at the chores.
const (
	choresFirst = time.Second
	choresMost  = time.Minute
)

// chores are clean-ups that have failed and are tried again, one after the
// other, until each has succeeded or the agent ends. No sandbox waits for them.
//
// Invariant: at most one goroutine works at them, and one does if there are any
// and the agent has not ended.
type chores struct {
	mu      sync.Mutex // protects the following
	waiting map[string]func(context.Context) error
	at      bool // a goroutine works at them
}

// add has do called until it succeeds. It replaces a chore of the same name.
func (c *chores) add(m *Manager, name string, do func(context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		c.waiting = make(map[string]func(context.Context) error)
	}
	c.waiting[name] = do
	if !c.at && m.life.Err() == nil {
		c.at = true
		m.running.Go(func() { c.work(m) })
	}
}

func (c *chores) work(m *Manager) {
	for wait := choresFirst; ; wait = min(2*wait, choresMost) {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-m.life.Done():
			timer.Stop()
			return
		}
		if c.round(m) {
			return
		}
	}
}

// round tries each chore once. It reports true if none is left, and work is to
// end.
func (c *chores) round(m *Manager) (done bool) {
	c.mu.Lock()
	waiting := c.waiting
	c.waiting = make(map[string]func(context.Context) error)
	c.mu.Unlock()
	for name, do := range waiting {
		err := fault.Caught(func() error { return do(m.life) })
		if err == nil {
			m.log.Info("a clean-up that had failed is done", "chore", name)
			delete(waiting, name)
			continue
		}
		m.log.Debug("a clean-up failed again", "chore", name, "error", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(waiting, c.waiting) // those that were added meanwhile win
	c.waiting = waiting
	c.at = len(c.waiting) > 0
	return !c.at
}
