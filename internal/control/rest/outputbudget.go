package rest

import "sync/atomic"

// outputBudget bounds the memory that the collected outputs of all requests
// hold together. A quarter of it is reserved for commands that start, so that a
// few commands with much output cannot prevent all others.
type outputBudget struct {
	free     atomic.Int64
	reserved int64
}

// newOutputBudget returns a budget of n bytes.
func newOutputBudget(n int64) *outputBudget {
	b := &outputBudget{reserved: n / 4}
	b.free.Store(n)
	return b
}

// begin takes n bytes for a command that begins, or reports false and takes
// nothing.
func (b *outputBudget) begin(n int64) bool { return b.take(n, 0) }

// grow takes n bytes more for a command that runs, or reports false and takes
// nothing.
func (b *outputBudget) grow(n int64) bool { return b.take(n, b.reserved) }

// take takes n bytes if at least leave bytes stay free.
func (b *outputBudget) take(n, leave int64) bool {
	for {
		free := b.free.Load()
		if free-n < leave {
			return false
		}
		if b.free.CompareAndSwap(free, free-n) {
			return true
		}
	}
}

// give returns n bytes.
func (b *outputBudget) give(n int64) { b.free.Add(n) }
