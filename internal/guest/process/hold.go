package process

import "context"

// Hold waits until no command is being started, or ctx ends, and lets none start until
// Continue. A caller that stops all processes afterwards has found all of them. A Start waits
// meanwhile. It is idempotent, and must not be called concurrently with itself or
// Continue.
func (t *Table) Hold(ctx context.Context) error {
	if t.isHeld() {
		return nil
	}
	if err := t.starts.Acquire(ctx, MaxRunning); err != nil {
		return err
	}
	t.setHeld(true)
	return nil
}

// Continue lets commands start again. It is idempotent.
func (t *Table) Continue() {
	if t.isHeld() {
		t.setHeld(false)
		t.starts.Release(MaxRunning)
	}
}

func (t *Table) isHeld() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.held
}

func (t *Table) setHeld(held bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = held
}
