package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/linux/proc"
)

// Process is the process of one VM. It has those methods of vmm.VM that concern the
// process alone. It is safe for use by several goroutines.
//
// Invariants: exited is closed once, after the process has ended, and exit never
// changes afterwards.
type Process struct {
	rec    vmm.Record
	fd     *os.File // pidfd_open(2)
	exited chan struct{}

	mu       sync.Mutex // protects the following
	killing  bool
	detached bool
	exit     vmm.Exit
}

// Open returns the process of rec. It is os.ErrProcessDone if that process has ended.
// The caller calls Watch once, or Detach.
func Open(rec vmm.Record) (*Process, error) {
	fd, err := open(rec)
	if err != nil {
		return nil, err
	}
	return &Process{rec: rec, fd: fd, exited: make(chan struct{})}, nil
}

// Watch waits for the end of the process and calls ended, with the error of the wait
// if there was one. It records the Exit that ended returns. If Detach is called before
// the process ends, Watch returns without a call of ended.
func (p *Process) Watch(ended func(waitErr error) vmm.Exit) {
	err := proc.Wait(p.fd)
	p.mu.Lock()
	detached := p.detached
	p.mu.Unlock()
	if detached {
		return
	}
	_ = p.fd.Close()
	exit := ended(err)
	p.mu.Lock()
	p.exit = exit
	p.mu.Unlock()
	close(p.exited)
}

// Runs reports whether the process has not ended.
func (p *Process) Runs() bool { return proc.Runs(p.fd) }

// Killed reports whether Kill has been called.
func (p *Process) Killed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.killing
}

// Kill ends the process and returns after its end has been recorded. It is
// idempotent, and nil for a process that has already ended.
func (p *Process) Kill(ctx context.Context) error {
	p.mu.Lock()
	p.killing = true
	p.mu.Unlock()
	select {
	case <-p.exited:
		return nil
	default:
	}
	if err := proc.Kill(p.fd); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	select {
	case <-p.exited:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of VM process %d: %w", p.rec.PID, context.Cause(ctx))
	}
}

// Duplicate returns a copy of the process's descriptor fd (pidfd_getfd(2)). It fails if
// the process has ended or has no such descriptor.
func (p *Process) Duplicate(fd int) (dup int, err error) {
	raw, err := p.fd.SyscallConn()
	if err != nil {
		return -1, err
	}
	controlErr := raw.Control(func(pidfd uintptr) { dup, err = unix.PidfdGetfd(int(pidfd), fd, 0) })
	return dup, errors.Join(controlErr, err)
}

// Detach ends Watch. The process continues.
func (p *Process) Detach() {
	p.mu.Lock()
	p.detached = true
	p.mu.Unlock()
	_ = p.fd.Close()
}

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Exit returns how the process ended. It is valid after Exited is closed.
func (p *Process) Exit() vmm.Exit {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exit
}

// Record returns the record that Open was given.
func (p *Process) Record() vmm.Record { return p.rec }
