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
)

// ErrRunning says that another process holds a lock.
var ErrRunning = errors.New("another process holds the lock")

// Lock makes this process the only one that holds the file at path, and
// records its process id there. The kernel ends the lock with the process,
// however that ends. release ends it earlier. The error is ErrRunning when
// another process holds it.
func Lock(path string) (release func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrRunning
		}
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
	return func() { _ = f.Close() }, nil
}

// Process is another process, held by a descriptor: unlike its id, that never
// comes to mean another one.
type Process struct {
	PID int
	fd  *os.File
}

// Holder returns the process that holds the lock at path, or nil if none does.
// The caller closes it.
//
// The id in the file alone proves nothing: the process must also have this
// very file open while the lock is held.
func Holder(path string) (*Process, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); {
	case err == nil:
		return nil, nil
	case !errors.Is(err, syscall.EWOULDBLOCK):
		return nil, err
	}
	raw := make([]byte, 32)
	n, _ := f.Read(raw)
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw[:n])))
	if err != nil {
		return nil, fmt.Errorf("%s is locked and names no process", path)
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("%s is locked, and process %d, which it names, cannot be found: %w", path, pid, err)
	}
	p := &Process{PID: pid, fd: os.NewFile(uintptr(fd), "pidfd")}
	if !hasOpen(pid, f) {
		p.Close()
		return nil, fmt.Errorf("%s is locked, but not by process %d, which it names", path, pid)
	}
	return p, nil
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

// Wait returns nil once the process has ended, or ctx's error.
func (p *Process) Wait(ctx context.Context) error {
	raw, err := p.fd.SyscallConn()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = p.fd.SetReadDeadline(time.Unix(1, 0)) })()
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

// Close lets the process go.
func (p *Process) Close() { _ = p.fd.Close() }
