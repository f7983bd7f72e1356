package proc

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Open returns a descriptor (pidfd_open(2)) of the process with the number pid that has started
// at startTicks (Stat). It is os.ErrProcessDone when that process is gone,
// even if its number has a new owner.
func Open(pid int, startTicks uint64) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, os.ErrProcessDone
	}
	if err != nil {
		return nil, fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	// Checked after the open: from here on the descriptor cannot change its owner.
	stat, err := ReadStat(pid)
	switch {
	case err == nil && stat.StartTicks == startTicks:
		return f, nil
	case err == nil, errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ESRCH):
		err = os.ErrProcessDone
	}
	return nil, errors.Join(err, f.Close())
}

// Wait returns when the process has ended, or the descriptor is closed or its read
// deadline has passed.
func Wait(pidfd *os.File) error {
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

// Runs reports whether the process has not ended.
func Runs(pidfd *os.File) bool {
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

// Kill sends SIGKILL. A process that has ended already is no error.
func Kill(pidfd *os.File) error {
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
