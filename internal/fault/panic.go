package fault

import (
	"fmt"
	"runtime/debug"
)

// Caught calls do and returns its error. A panic of do comes back as an
// Internal fault with reason "panic", whose cause holds the value and the stack
// for the log. Every goroutine that works for one caller, or for one sandbox,
// runs under it, so that its panic ends that work and not the process.
func Caught(do func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = Panicked(v)
		}
	}()
	return do()
}

// Panicked makes a fault of v, which recover has returned. It must be called by
// the deferred function itself, while the stack is still that of the panic.
func Panicked(v any) error {
	return Wrap(fmt.Errorf("panic: %v\n%s", v, debug.Stack()), Internal, "panic",
		"an internal error ended the operation; the log has its cause")
}
