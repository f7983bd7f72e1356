package network

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// netnsDir is where named network namespaces are, by the convention of
// ip-netns(8), so that an operator's tools see them.
const netnsDir = "/run/netns"

// onThread runs fn on a thread that move has put into another network
// namespace, and returns the thread to home. A thread that cannot be returned
// ends with its goroutine and never runs other code.
func onThread(home *os.File, move, fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := move()
		if err == nil {
			err = fn()
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

// claimName creates the file of a namespace's name, holding mark until the
// namespace is mounted over it. It fails with fs.ErrExist if the name is taken
// by anyone.
func claimName(name, mark string) error {
	f, err := os.OpenFile(filepath.Join(netnsDir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	_, err = f.WriteString(mark)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		_ = dropName(name)
	}
	return err
}

// bindName gives the calling thread's namespace the claimed name, which keeps
// it alive without a process.
func bindName(name string) error {
	return unix.Mount("/proc/thread-self/ns/net", filepath.Join(netnsDir, name), "", unix.MS_BIND, "")
}

// openName opens a named namespace and returns it with its inode number, which
// tells it from a later one of the same name. It fails with fault.NotFound if
// the name is not that of a namespace.
func openName(name string) (*os.File, uint64, error) {
	f, err := os.Open(filepath.Join(netnsDir, name))
	if err != nil {
		return nil, 0, fault.Wrap(err, fault.NotFound, "netns_missing", "the sandbox's network namespace is gone")
	}
	raw := int(f.Fd())
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := errors.Join(unix.Fstatfs(raw, &fs), unix.Fstat(raw, &st)); err != nil {
		_ = f.Close()
		return nil, 0, fault.Wrap(err, fault.Internal, "netns_unreadable", "the sandbox's network namespace cannot be read")
	}
	if fs.Type != unix.NSFS_MAGIC {
		_ = f.Close()
		return nil, 0, fault.New(fault.NotFound, "netns_missing", "the sandbox's network namespace is gone")
	}
	return f, st.Ino, nil
}

// dropName removes a namespace's name, mounted or not. The namespace itself
// and everything in it go as soon as no process and no open file uses it. A
// name that is not there is success.
func dropName(name string) error {
	path := filepath.Join(netnsDir, name)
	err := unix.Unmount(path, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
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
