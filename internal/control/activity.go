package control

import (
	"context"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// activity gathers when sandboxes were last used, so that a command costs no
// UPDATE.
//
// Invariants: a time is in seen until a Touch with it has succeeded; times of
// one sandbox only increase; seen holds at most one entry per sandbox.
type activity struct {
	common
	store touchStore

	mu   sync.Mutex // protects the following
	seen map[sandbox.ID]time.Time
}

// touchStore is the part of [Store] that activity needs.
type touchStore interface {
	Touch(ctx context.Context, seen map[sandbox.ID]time.Time) error
}

func newActivity(c common, store touchStore) *activity {
	return &activity{common: c, store: store, seen: make(map[sandbox.ID]time.Time)}
}

// note records that id is in use now.
func (a *activity) note(id sandbox.ID) { a.merge(map[sandbox.ID]time.Time{id: time.Now()}) }

func (a *activity) merge(seen map[sandbox.ID]time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, t := range seen {
		if t.After(a.seen[id]) {
			a.seen[id] = t
		}
	}
}

// flush writes the recorded activity times to the store. Entries that fail stay
// queued for the next flush.
func (a *activity) flush(ctx context.Context) error {
	a.mu.Lock()
	seen := a.seen
	a.seen = make(map[sandbox.ID]time.Time)
	a.mu.Unlock()
	if len(seen) == 0 {
		return nil
	}
	err := a.store.Touch(ctx, seen)
	if err != nil {
		a.merge(seen)
	}
	return err
}

// run writes the times of last activity in batches until ctx ends, and
// once more then.
func (a *activity) run(ctx context.Context) {
	tick := time.NewTicker(a.cfg.ActivityInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := fault.Caught(func() error { return a.flush(ctx) }); err != nil && ctx.Err() == nil {
				a.log.Warn("last activity not written, will try again", "error", err)
			}
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.AskTimeout)
			defer cancel()
			if err := a.flush(last); err != nil {
				a.log.Warn("last activity lost", "error", err)
			}
			return
		}
	}
}
