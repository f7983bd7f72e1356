package gvisor

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/process"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/runsc"
)

// vm is one sandbox. Its process is the sentry: with it end the stubs, whose PID
// namespace is the sentry's.
type vm struct {
	*process.Process
	dir     string // of the sandbox
	about   description
	builds  *runsc.Store
	console *console
	power   power
	hold    *hold
	share   uint64 // bytes of the host's memory that were counted for the sandbox
	// stop ends the requests that are under way.
	stop context.CancelFunc
	// overdrawn: the driver ends the sandbox because it uses too much memory.
	overdrawn atomic.Bool

	mu     sync.Mutex       // protects the following
	status *unix.WaitStatus // of the guest's first process
}

var _ vmm.VM = (*vm)(nil)

// attach starts to watch the sentry p. The vm closes c.
func (d *Driver) attach(p *process.Process, about description, c *console) *vm {
	ctx, cancel := context.WithCancel(context.Background())
	dir := p.Record().Dir
	v := &vm{
		Process: p, dir: dir, about: about, builds: d.builds, console: c, stop: cancel,
		power: power{dir: dir, life: ctx, turn: make(chan struct{}, 1)}, hold: newHold(d.guard, dir),
		share: d.share(about.Seal.MemoryMB, about.Seal.DiskMB),
	}
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		_ = fault.Caught(func() error { v.askStatus(ctx); return nil })
	}()
	go func() {
		defer cancel()
		defer d.guard.remove(guardedVM{v})
		_ = fault.Caught(func() error {
			v.Watch(func(waitErr error) vmm.Exit { return v.ended(waitErr, asked) })
			return nil
		})
	}()
	return v
}

// askStatus waits for the end of the guest's first process, whose status no other
// call tells after the sentry has ended.
func (v *vm) askStatus(ctx context.Context) {
	var status unix.WaitStatus
	if call(ctx, v.dir, methodWait, containerID, &status) != nil {
		return
	}
	v.mu.Lock()
	v.status = &status
	v.mu.Unlock()
}

// statusGrace is how long the answer of askStatus may come after the end of the
// sentry, which sends it first.
const statusGrace = 100 * time.Millisecond

// ended releases the resources of a sentry that has ended, and describes its end.
func (v *vm) ended(waitErr error, asked <-chan struct{}) vmm.Exit {
	select {
	case <-asked:
	case <-time.After(statusGrace):
	}
	report := v.console.report.text()
	v.console.close()
	v.mu.Lock()
	defer v.mu.Unlock()
	return vmm.Exit{Cause: v.cause(), Detail: v.detail(waitErr, report), At: time.Now()}
}

// cause must be called with mu held.
func (v *vm) cause() vmm.Cause {
	switch {
	case v.overdrawn.Load():
		return vmm.CauseMemory
	case v.Killed():
		return vmm.CauseKilled
	case v.status != nil:
		return vmm.CauseGuestShutdown
	default:
		return vmm.CauseVMM
	}
}

// detail must be called with mu held.
func (v *vm) detail(waitErr error, report string) string {
	detail := "the sentry ended"
	if v.overdrawn.Load() {
		detail = "the sandbox used more memory than it may, and the end of its commands did not change that"
	}
	if v.status != nil {
		detail = fmt.Sprintf("the guest's first process ended with status %d", v.status.ExitStatus())
		if v.status.Signaled() {
			detail = fmt.Sprintf("the guest's first process was ended by %s", v.status.Signal())
		}
	}
	if waitErr != nil {
		detail += "; afterwards: " + waitErr.Error()
	}
	if report != "" {
		detail += "; " + report
	}
	return detail
}

// Ping asks the sentry for the guest's processes and ignores them.
func (v *vm) Ping(ctx context.Context) error {
	return call(ctx, v.dir, methodProcesses, containerID, nil)
}

// Detach stops watching.
func (v *vm) Detach() {
	v.hold.guard.remove(guardedVM{v})
	v.Process.Detach()
	v.stop()
	v.console.close()
}
