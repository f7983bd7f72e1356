package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/linux/flock"
)

// ErrRunning means that another process holds the lock.
var ErrRunning = errors.New("another process holds the lock")

// A probe of Holder holds the lock for an instant, and a start holds it for an
// instant before its id is in the file. lockPatience bounds the wait for
// both, and lockRetry is the interval of the attempts.
const (
	lockPatience = 2 * time.Second
	lockRetry    = 5 * time.Millisecond
)

// Lock takes the exclusive lock of the file at path and records this process's
// id there. The kernel ends the lock with the process, however that ends.
// release ends it earlier. The error is ErrRunning when another process holds
// it. The file is for its owner alone: flock(2) needs no more than an open
// file, so that anybody who can read it could keep all others out.
func Lock(path string) (release func(), err error) {
	f, err := flock.Open(path)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintln(f, os.Getpid())
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Truncate(0); _ = f.Close() }, nil
}

// lockFile takes the exclusive lock of f. A conflicting shared lock belongs to
// a Holder, which releases it at once.
func lockFile(f *os.File) error {
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(lockRetry) {
		err := flock.Try(f)
		if !errors.Is(err, flock.ErrLocked) {
			return err
		}
		if p := recorded(f); p != nil {
			p.Close()
			return ErrRunning
		}
		if time.Now().After(deadline) {
			return ErrRunning
		}
	}
}

// Process is another process, identified by a descriptor. Unlike a process id,
// a descriptor never refers to another process later.
type Process struct {
	PID int
	fd  *os.File
}

// Holder returns the process that holds the lock at path, or nil if none does.
// The caller closes it. It needs the right to see that process's open files.
//
// The id in the file alone proves nothing: the process must also have this
// very file open.
func Holder(path string) (*Process, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(lockRetry) {
		switch err := flock.TryShared(f); {
		case err == nil:
			return nil, nil
		case !errors.Is(err, flock.ErrLocked):
			return nil, err
		}
		if p := recorded(f); p != nil {
			return p, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s is locked, but not by the process that it names, if any", path)
		}
	}
}

// recorded returns the process whose id is in f, if it has f open, or nil. The
// caller closes it.
func recorded(f *os.File) *Process {
	raw := make([]byte, 32)
	n, _ := f.ReadAt(raw, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw[:n])))
	if err != nil {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil
	}
	p := &Process{PID: pid, fd: os.NewFile(uintptr(fd), "pidfd")}
	if !hasOpen(pid, f) {
		p.Close()
		return nil
	}
	return p
}

// hasOpen reports whether process pid has the file of f open.
func hasOpen(pid int, f *os.File) bool {
	want, err := f.Stat()
	if err != nil {
		return false
	}
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, l := range links {
		if got, err := os.Stat(l); err == nil && os.SameFile(got, want) {
			return true
		}
	}
	return false
}

// Signal sends sig to the process. It is no error if that has ended.
func (p *Process) Signal(sig syscall.Signal) error {
	raw, err := p.fd.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	// Not by Fd, which would take the descriptor from the runtime's poller.
	err = raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
	if errors.Is(sent, syscall.ESRCH) {
		return nil
	}
	return errors.Join(err, sent)
}

// Wait returns nil once the process has ended, or ctx's error. It may be called
// again, but not by several goroutines at once.
func (p *Process) Wait(ctx context.Context) error {
	raw, err := p.fd.SyscallConn()
	if err != nil {
		return err
	}
	// The deadline that cut an earlier call short is not this one's.
	if err := p.fd.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		_ = p.fd.SetReadDeadline(time.Unix(1, 0))
	})
	defer func() {
		if !stop() {
			<-cut
		}
	}()
	ended := false
	err = raw.Read(func(fd uintptr) bool {
		// A descriptor of a process becomes readable when it has ended
		// (pidfd_open(2)).
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, _ := unix.Poll(poll, 0)
		ended = n > 0
		return ended
	})
	if ended {
		return nil
	}
	return errors.Join(ctx.Err(), err)
}

// Close closes the descriptor of the process.
func (p *Process) Close() { _ = p.fd.Close() }
