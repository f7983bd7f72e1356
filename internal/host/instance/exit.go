package instance

import (
	"context"
	"fmt"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

// UntilExit returns a context that ends with the VM, and a function that frees
// it.
func (i *Instance) UntilExit(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	exited, stopped := i.VM.Exited(), make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-exited:
			cancel(fault.New(fault.HostFailed, "guest_exited", "the VM ended while it was starting"))
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil); <-stopped }
}

// Ended reports whether the VM process has ended, or there is none.
func (i *Instance) Ended() bool {
	if i.VM == nil {
		return true
	}
	select {
	case <-i.VM.Exited():
		return true
	default:
		return false
	}
}

// exitGrace is how long after a failed call the end of a VM process may be seen.
const exitGrace = time.Second

// EndsSoon is Ended after a call to the VM or its guest has failed, perhaps
// because its process is just ending. It takes up to exitGrace.
func (i *Instance) EndsSoon() bool {
	if i.VM == nil {
		return true
	}
	timer := time.NewTimer(exitGrace)
	defer timer.Stop()
	select {
	case <-i.VM.Exited():
		return true
	case <-timer.C:
		return false
	}
}

// Console returns the end of the serial console as one line, for the log.
func (i *Instance) Console(ctx context.Context) string {
	if i.VM == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	const keep = 2048
	out, err := i.VM.Console(ctx)
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	return untrusted.Line(string(out[max(0, len(out)-keep):]), keep)
}
