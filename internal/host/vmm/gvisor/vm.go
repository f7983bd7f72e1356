package gvisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/linux/proc"
)

// vm is one sandbox.
//
// Invariants: exited is closed once, after the sentry has ended, so that exit never
// changes afterwards.
type vm struct {
	rec      vmm.Record
	about    description
	runtimes *runtimes
	sentry   *os.File // pidfd
	console  *console
	power    power
	exited   chan struct{}
	// stop ends the requests that are under way.
	stop context.CancelFunc

	mu       sync.Mutex // protects the following
	killing  bool
	detached bool
	status   *unix.WaitStatus // of the guest's first process
	exit     vmm.Exit
}

var _ vmm.VM = (*vm)(nil)

// attach connects to the sentry of rec and starts to watch it. The vm closes c.
func (d *Driver) attach(rec vmm.Record, about description, c *console) (*vm, error) {
	sentry, err := proc.Open(rec.PID, rec.StartTicks)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	v := &vm{
		rec: rec, about: about, runtimes: d.runtimes, sentry: sentry, console: c, exited: make(chan struct{}), stop: cancel,
		power: power{dir: rec.Dir, life: ctx, turn: make(chan struct{}, 1)},
	}
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		_ = fault.Caught(func() error { v.askStatus(ctx); return nil })
	}()
	go func() {
		defer cancel()
		_ = fault.Caught(func() error { v.watch(asked); return nil })
	}()
	return v, nil
}

// askStatus waits for the end of the guest's first process, whose status no other
// call tells after the sentry has ended.
func (v *vm) askStatus(ctx context.Context) {
	var status unix.WaitStatus
	if call(ctx, v.rec.Dir, methodWait, containerID, &status) != nil {
		return
	}
	v.mu.Lock()
	v.status = &status
	v.mu.Unlock()
}

// statusGrace is how long the answer of askStatus may come after the end of the
// sentry, which sends it first.
const statusGrace = 100 * time.Millisecond

// watch waits for the end of the sentry and records it.
func (v *vm) watch(asked <-chan struct{}) {
	err := proc.Wait(v.sentry)
	v.mu.Lock()
	detached := v.detached
	v.mu.Unlock()
	if detached {
		return
	}
	select {
	case <-asked:
	case <-time.After(statusGrace):
	}
	_ = v.sentry.Close()
	v.console.close()
	err = errors.Join(err, removeGroups(v.about.Group, groupPatience))
	v.mu.Lock()
	v.exit = vmm.Exit{Cause: v.cause(), Detail: v.detail(err), At: time.Now()}
	v.mu.Unlock()
	close(v.exited)
}

// cause must be called with mu held.
func (v *vm) cause() vmm.Cause {
	switch {
	case v.killing:
		return vmm.CauseKilled
	case v.status != nil:
		return vmm.CauseGuestShutdown
	default:
		return vmm.CauseVMM
	}
}

// detail must be called with mu held.
func (v *vm) detail(waitErr error) string {
	detail := "the sentry ended"
	if v.status != nil {
		detail = fmt.Sprintf("the guest's first process ended with status %d", v.status.ExitStatus())
		if v.status.Signaled() {
			detail = fmt.Sprintf("the guest's first process was ended by %s", v.status.Signal())
		}
	}
	if waitErr != nil {
		detail += "; afterwards: " + waitErr.Error()
	}
	if text := panicOf(v.rec.Dir); text != "" {
		detail += "; " + text
	}
	return detail
}

// Ping asks the sentry for the guest's processes and ignores them.
func (v *vm) Ping(ctx context.Context) error {
	return call(ctx, v.rec.Dir, methodProcesses, containerID, nil)
}

// Pause stops all tasks of the guest.
func (v *vm) Pause(ctx context.Context) error { return v.power.set(ctx, true) }

// Resume continues them.
func (v *vm) Resume(ctx context.Context) error { return v.power.set(ctx, false) }

// Kill ends the sentry, and with it the stubs, whose PID namespace is the sentry's.
func (v *vm) Kill(ctx context.Context) error {
	v.mu.Lock()
	v.killing = true
	v.mu.Unlock()
	select {
	case <-v.exited:
		return nil
	default:
	}
	if err := proc.Kill(v.sentry); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	select {
	case <-v.exited:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of sentry %d: %w", v.rec.PID, context.Cause(ctx))
	}
}

// Detach stops watching.
func (v *vm) Detach() {
	v.mu.Lock()
	v.detached = true
	v.mu.Unlock()
	v.stop()
	_ = v.sentry.Close() // ends watch
	v.console.close()
}

// Stalled never receives: the writable disk is in memory.
func (v *vm) Stalled() <-chan struct{} { return nil }

// OutOfSpace reports false: the writable disk is in memory.
func (v *vm) OutOfSpace(context.Context) (bool, error) { return false, nil }

// Exited implements vmm.VM.
func (v *vm) Exited() <-chan struct{} { return v.exited }

// Exit implements vmm.VM.
func (v *vm) Exit() vmm.Exit {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.exit
}

// Record implements vmm.VM.
func (v *vm) Record() vmm.Record { return v.rec }
