package cgroupfs

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// events is a waiter for changes of a file of cgroups v2 such as memory.events. The kernel
// tells of a change as priority data (admin-guide/cgroup-v2.rst), for which the Go runtime
// does not wait. An epoll instance turns it into a readable descriptor. Users may have far
// more of those than of inotify instances.
type events struct {
	file *os.File
	poll *os.File // an epoll instance with file in it
}

// watchEvents returns a waiter for changes from now on of the file at path.
func watchEvents(path string) (*events, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	e := &events{file: file}
	if err := e.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w", path, err), file.Close())
	}
	return e, nil
}

func (e *events) open() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	err = unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, int(e.file.Fd()), &unix.EpollEvent{Events: unix.EPOLLPRI})
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err == nil {
		err = e.read()
	}
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	e.poll = os.NewFile(uintptr(fd), "events")
	return nil
}

// read makes the file unchanged.
func (e *events) read() error {
	if _, err := e.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, e.file)
	return err
}

// Wait implements waiter.
func (e *events) Wait() error {
	conn, err := e.poll.SyscallConn()
	if err != nil {
		return err
	}
	var pollErr error
	err = conn.Read(func(fd uintptr) (done bool) {
		var changed [1]unix.EpollEvent
		n, err := unix.EpollWait(int(fd), changed[:], 0)
		if errors.Is(err, unix.EINTR) {
			err = nil
		}
		pollErr = err
		return n > 0 || err != nil
	})
	switch {
	case err != nil:
		return os.ErrClosed // the only reason, but the poller has an error of its own for it
	case pollErr != nil:
		return pollErr
	}
	return e.read()
}

// Close implements waiter.
func (e *events) Close() error { return errors.Join(e.poll.Close(), e.file.Close()) }
