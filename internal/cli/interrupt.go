package cli

import (
	"context"
	"errors"
	"sync/atomic"
)

// patience counts the interrupts that a command ignores while it cleans up.
type patience struct{ left atomic.Int32 }

// spared is the number of interrupts after the first that do not end a command with
// a sandbox to destroy, because people press twice by accident.
const spared = 1

// hold begins work that interrupts should not end, until release is called.
func (p *patience) hold() (release func()) {
	p.left.Store(spared)
	return func() { p.left.Store(0) }
}

// MayExit reports whether the program may end at once after another interrupt. While
// a command cleans up, the first call returns false and prints how to end it. It may
// be called from any goroutine.
func (a *App) MayExit() bool {
	if a.cleaning.left.Add(-1) < 0 {
		return true
	}
	a.note("still cleaning up; interrupt again to end at once")
	return false
}

// interruptedCode returns the exit code of a command line that a signal ended: 128
// plus the signal's number, or 130 if the signal is unknown.
func interruptedCode(ctx context.Context) int {
	var signalled interface{ ExitCode() int }
	if cause := context.Cause(ctx); cause != nil && errors.As(cause, &signalled) {
		return signalled.ExitCode()
	}
	return exitInterrupted
}
