package network

import (
	"context"
	"errors"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// remove removes a namespace's name, wherever it is, and the veth pair of that
// name, if their marks are ours. The caller holds the name's index.
func (p *Pool) remove(name string, ours func(mark string) bool) (found bool, err error) {
	var errs []error
	for _, d := range p.nameDirs() {
		mark, err := d.mark(p.host, name)
		if err == nil && ours(mark) {
			found = true
			err = d.drop(name)
		}
		errs = append(errs, err)
	}
	return found, errors.Join(append(errs, p.dropHostEnd(name, ours))...)
}

// Waits between two attempts to remove garbage.
const (
	garbageFirst = time.Second
	garbageMost  = time.Minute
)

// keepGarbage remembers a name that could not be removed because of cause. The
// caller holds the name's index and gives it to the garbage: while the name is
// there nobody could use the index anyway.
func (p *Pool) keepGarbage(ctx context.Context, name string, cause error) {
	p.log.WarnContext(ctx, "a sandbox's network cannot be removed; trying again in the background", "name", name, "error", cause)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.garbage[name] = true
	if !p.collecting && !p.closed {
		p.collecting = true
		p.running.Go(p.collect)
	}
}

// dropPairLater removes the pair of a released slot beside the caller. Close waits
// for it; once the pool is closed the pair is removed at once.
func (p *Pool) dropPairLater(ctx context.Context, s *Slot) {
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.running.Go(func() {
			s.freeIndex(ctx, fault.Caught(s.dropPair))
		})
	}
	p.mu.Unlock()
	if closed {
		s.freeIndex(ctx, s.dropPair())
	}
}

// collect tries to remove the garbage until there is none or the pool closes;
// the next agent's Sweep finds the rest.
func (p *Pool) collect() {
	for wait := garbageFirst; ; wait = min(2*wait, garbageMost) {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-p.life.Done():
			timer.Stop()
			return
		}
		if p.collectOnce() {
			return
		}
	}
}

// collectOnce tries to remove each piece of garbage. It reports true if none is
// left, and collect is to end.
func (p *Pool) collectOnce() (done bool) {
	p.mu.Lock()
	names := make([]string, 0, len(p.garbage))
	for name := range p.garbage {
		names = append(names, name)
	}
	p.mu.Unlock()
	for _, name := range names {
		err := fault.Caught(func() error {
			_, err := p.remove(name, p.cfg.ours)
			return err
		})
		if err != nil {
			p.log.Debug("a sandbox's network still cannot be removed", "name", name, "error", err)
			continue
		}
		p.log.Info("removed a sandbox's network at last", "name", name)
		p.mu.Lock()
		delete(p.garbage, name)
		p.mu.Unlock()
		if index, ok := p.cfg.slotIndex(name); ok && index < p.indexes.size {
			p.indexes.put(index, time.Now())
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.collecting = len(p.garbage) > 0
	return !p.collecting
}
