// Package undo keeps the compensations of a multi-step operation, so that
// rolling back a half-done operation and tearing down a finished one are the
// same code.
//
// Package network and the wiring of cmd/wrenn use it. It never retries and
// never decides whether to roll back.
package undo

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Stack is a last-in-first-out list of named compensations. The zero value is
// ready for use.
//
// Invariants: a compensation runs at most once; one pushed after Run has begun
// runs at once, so that none can be lost to a race.
type Stack struct {
	mu    sync.Mutex // protects the following
	steps []step
	ran   bool
}

type step struct {
	name string
	fn   func(context.Context) error
}

// Push adds fn under name, to run before everything pushed earlier. If the
// stack has already run, fn runs at once and its error is returned.
func (s *Stack) Push(name string, fn func(context.Context) error) error {
	s.mu.Lock()
	if !s.ran {
		s.steps = append(s.steps, step{name, fn})
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	return fn(context.Background())
}

// Run runs every compensation in reverse order, regardless of the outcome of
// the one before, and returns their errors joined, each with its name. Later
// calls do nothing.
func (s *Stack) Run(ctx context.Context) error {
	s.mu.Lock()
	steps := s.steps
	s.steps, s.ran = nil, true
	s.mu.Unlock()
	var errs []error
	for i := len(steps) - 1; i >= 0; i-- {
		if err := steps[i].fn(ctx); err != nil {
			errs = append(errs, fmt.Errorf("undo %s: %w", steps[i].name, err))
		}
	}
	return errors.Join(errs...)
}
