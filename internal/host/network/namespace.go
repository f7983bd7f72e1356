package network

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/thread"
)

// onThread runs fn on a thread that move has put into another network
// namespace, and returns the thread to home. A thread that cannot be returned
// ends with its goroutine and never runs other code.
func onThread(home *os.File, move, fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := fault.Caught(move)
		if err == nil {
			err = fault.Caught(fn)
		}
		if back := setns(home); back == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// inside runs fn on a thread in the namespace ns. It fails with os.ErrClosed
// once ns has been closed.
func inside(home, ns *os.File, fn func() error) error {
	return onThread(home, func() error { return setns(ns) }, fn)
}

// insideNew runs fn on a thread in a new namespace, which lives on only if fn
// gives it a name.
func insideNew(home *os.File, fn func() error) error {
	return onThread(home, func() error { return unix.Unshare(unix.CLONE_NEWNET) }, fn)
}

// onOwnThread runs fn on a thread that ends with it, so that fn may change
// state that threads of a process usually share (its mount namespace, its root).
func onOwnThread(fn func() error) error {
	return thread.Own(func() error { return fault.Caught(fn) })
}

func setns(ns *os.File) error {
	raw, err := ns.SyscallConn()
	if err != nil {
		return err
	}
	var setErr error
	if err := raw.Control(func(fd uintptr) { setErr = unix.Setns(int(fd), unix.CLONE_NEWNET) }); err != nil {
		return os.ErrClosed // the only reason, but the poller has an error of its own for it
	}
	return setErr
}

// currentNamespace opens the namespace of the calling thread.
func currentNamespace() (*os.File, error) {
	return os.Open("/proc/thread-self/ns/net")
}

// sysctl writes a value below /proc/sys/net of the calling thread's namespace.
// A kernel without the key (IPv6 may be compiled out) is success.
func sysctl(key, value string) error {
	err := os.WriteFile(filepath.Join("/proc/sys/net", key), []byte(value), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
