package qemu

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/linux/proc"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

// messageBytes is how much of the VMM's own messages is kept for diagnosis.
// The guest can cause messages without bound.
const messageBytes = 8 << 10

// tail keeps the last messageBytes written to it.
type tail struct {
	mu  sync.Mutex // protects the following
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - messageBytes; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

// String returns the messages as one line. Some of them hold text of the guest.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return untrusted.Line(strings.TrimSpace(string(t.buf)), messageBytes)
}

func monitorPath(dir string) string { return filepath.Join(dir, "qmp.sock") }

// listenMonitor makes the QMP socket. QEMU gets it listening, so that a
// connection never has to be tried twice and a later agent can connect again.
func listenMonitor(dir string) (*os.File, error) {
	path := monitorPath(dir)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, err
	}
	return l.File()
}

// identity names one process for ever: a PID with its start time.
type identity struct {
	pid        int
	startTicks uint64
}

// openProcess returns a pidfd for id. It is os.ErrProcessDone when that
// process is gone, even if its PID has a new owner.
func openProcess(id identity) (*os.File, error) {
	fd, err := unix.PidfdOpen(id.pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, os.ErrProcessDone
	}
	if err != nil {
		return nil, fmt.Errorf("pidfd_open %d: %w", id.pid, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	// Checked after the open: from here on the pidfd cannot change its owner.
	if stat, err := proc.ReadStat(id.pid); err != nil || stat.StartTicks != id.startTicks {
		_ = f.Close()
		return nil, os.ErrProcessDone
	}
	return f, nil
}

// waitProcess returns when the process of pidfd has ended, or pidfd is closed.
func waitProcess(pidfd *os.File) error {
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var pollErr error
	err = conn.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		pollErr = err
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
	return errors.Join(err, pollErr)
}

// processRuns reports whether the process of pidfd has not ended.
func processRuns(pidfd *os.File) bool {
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return false
	}
	n := 1
	err = conn.Control(func(fd uintptr) {
		n, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	})
	return err == nil && n <= 0
}

func killProcess(pidfd *os.File) error {
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var killErr error
	err = conn.Control(func(fd uintptr) {
		killErr = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0)
	})
	if errors.Is(killErr, unix.ESRCH) {
		killErr = nil
	}
	return errors.Join(err, killErr)
}
