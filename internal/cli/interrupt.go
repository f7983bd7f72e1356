package cli

import (
	"context"
	"errors"
	"sync/atomic"
)

// patience counts the interrupts that a command which cleans up lets pass.
type patience struct{ left atomic.Int32 }

// spared is how many interrupts after the first do not end a command that has
// a sandbox of its own to destroy: people press twice without meaning it.
const spared = 1

// hold begins work that should not be cut off, until release is called.
func (p *patience) hold() (release func()) {
	p.left.Store(spared)
	return func() { p.left.Store(0) }
}

// MayExit reports whether the program may end at once, because it was
// interrupted again. A command that has something to clean up says no once, and
// how to leave it. It may be called from any goroutine.
func (a *App) MayExit() bool {
	if a.cleaning.left.Add(-1) < 0 {
		return true
	}
	a.note("still cleaning up; interrupt again to leave it")
	return false
}

// interruptedCode returns the exit code of a command line that a signal has
// ended: 128 plus the signal's number, or 130 where nobody says which it was.
func interruptedCode(ctx context.Context) int {
	var signalled interface{ ExitCode() int }
	if cause := context.Cause(ctx); cause != nil && errors.As(cause, &signalled) {
		return signalled.ExitCode()
	}
	return exitInterrupted
}
