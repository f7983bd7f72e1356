package gvisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// hold is the guard's part of a vm: it pauses the sandbox beside the host.
//
// Invariant: the sentry is paused if stopped or held is set, up to a request that is
// under way. A file says that held is set, for a later agent.
type hold struct {
	guard   *guard
	stalled chan struct{}

	// turn has room for one, who carries out a decision, so that the last one counts. It
	// is waited for no longer than the caller waits: a sentry may never answer.
	turn chan struct{}

	mu      sync.Mutex // protects the following
	stopped bool       // by the host
	held    bool       // by the guard
	retry   bool       // the guard's last request has failed
}

func heldPath(dir string) string { return filepath.Join(dir, "held") }

// newHold returns the hold of the sandbox in dir, which an earlier agent may have
// held.
func newHold(g *guard, dir string) *hold {
	h := &hold{guard: g, stalled: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
	if _, err := os.Stat(heldPath(dir)); err == nil {
		h.held = true
		h.hint()
	}
	return h
}

// take takes the turn. leave must follow.
func (h *hold) take(ctx context.Context) error {
	select {
	case h.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for an earlier request to the sandbox: %w", context.Cause(ctx))
	}
}

func (h *hold) leave() { <-h.turn }

// hint tells the host to ask whether the sandbox is held.
func (h *hold) hint() {
	select {
	case h.stalled <- struct{}{}:
	default:
	}
}

func (h *hold) isHeld() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.held
}

func (h *hold) isPaused() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.held && !h.retry || h.stopped
}

// change sets who pauses the sandbox.
func (h *hold) change(stopped, held bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped, h.held = stopped, held
	h.retry = h.retry && held && !stopped
}

// requested records the end of the guard's request. If it has failed, the guard tries
// again, and held stays set, because the sentry may carry out the request all the same.
func (h *hold) requested(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.retry = err != nil
}

// Pause stops all tasks of the guest.
func (v *vm) Pause(ctx context.Context) error {
	if err := v.hold.take(ctx); err != nil {
		return err
	}
	defer v.hold.leave()
	v.hold.change(true, v.hold.isHeld())
	return v.power.set(ctx, true)
}

// Resume continues them. If the guard holds the sandbox and memory is still short, it
// stays paused, and OutOfSpace reports that.
func (v *vm) Resume(ctx context.Context) error {
	if err := v.hold.take(ctx); err != nil {
		return err
	}
	defer v.hold.leave()
	held := v.hold.isHeld()
	if held && v.hold.guard.short() {
		v.hold.change(false, true)
		v.hold.hint()
		return nil
	}
	if err := v.power.set(ctx, false); err != nil {
		return err
	}
	v.hold.change(false, false)
	if !held {
		return nil
	}
	if err := os.Remove(heldPath(v.dir)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// hold implements guarded.
func (g guardedVM) hold(ctx context.Context) error {
	h := g.vm.hold
	if err := h.take(ctx); err != nil {
		return err
	}
	defer h.leave()
	if h.isPaused() {
		return nil
	}
	if err := os.WriteFile(heldPath(g.vm.dir), nil, 0o600); err != nil {
		return err
	}
	h.change(false, true)
	h.guard.log.Warn("the host's memory is nearly used up: a sandbox that uses more than its share is paused until there is memory",
		"sandbox", g.vm.Record().ID, "excess_mb", g.excess()>>20)
	err := g.vm.power.set(ctx, true)
	h.requested(err)
	h.hint()
	return err
}

// pauseBriefly pauses the sandbox for the memory alarm, and returns nil if it is paused
// already or cannot be. Until resume is called, Pause and Resume wait. If the sentry does
// not carry out the first request of resume, resume repeats it until ctx ends, beside
// other requests. A later agent resumes the sandbox when it adopts it.
func (v *vm) pauseBriefly(ctx context.Context) (resume func()) {
	limited, cancel := context.WithTimeout(ctx, guardPatience)
	defer cancel()
	if v.hold.take(limited) != nil {
		return nil
	}
	if v.hold.isPaused() {
		v.hold.leave()
		return nil
	}
	err := v.power.set(limited, true)
	resume = func() {
		limited, cancel := context.WithTimeout(ctx, guardPatience)
		err := v.power.set(limited, false)
		cancel()
		v.hold.leave()
		for err != nil && ctx.Err() == nil {
			rest(ctx, alarmSeldom)
			err = v.resumeUnlessPaused(ctx)
		}
	}
	if err != nil { // the sentry may carry it out all the same
		resume()
		return nil
	}
	return resume
}

// resumeUnlessPaused continues the sandbox, unless the host or the guard has paused it.
func (v *vm) resumeUnlessPaused(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, guardPatience)
	defer cancel()
	if err := v.hold.take(ctx); err != nil {
		return err
	}
	defer v.hold.leave()
	if v.hold.isPaused() {
		return nil
	}
	return v.power.set(ctx, false)
}

// rest returns after d, or when ctx ends.
func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Stalled receives when the guard has paused the sandbox.
func (v *vm) Stalled() <-chan struct{} { return v.hold.stalled }

// OutOfSpace reports whether the guard has paused the sandbox.
func (v *vm) OutOfSpace(context.Context) (bool, error) { return v.hold.isHeld(), nil }

// guardedVM is a vm as its guard sees it.
type guardedVM struct{ vm *vm }

// excess implements guarded.
func (g guardedVM) excess() uint64 {
	if g.vm.hold.isPaused() {
		return 0
	}
	used := memoryOf(g.vm.Record().PID)
	return used - min(used, g.vm.share)
}

// protect lets the guard watch v until it ends or is detached.
func (g *guard) protect(v *vm) {
	g.add(guardedVM{v})
	select {
	case <-v.Exited(): // perhaps before it was added
		g.remove(guardedVM{v})
	default:
	}
}
