package pgserver

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// dirWatch tells when a file in a directory has been written (inotify(7)).
type dirWatch struct {
	events *os.File
}

func watchDir(dir string) (*dirWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "postgres_watch", "cannot watch PostgreSQL start: too many inotify instances")
	}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO); err != nil {
		_ = unix.Close(fd)
		return nil, fault.Wrap(err, fault.Internal, "postgres_watch", "cannot watch PostgreSQL start: no inotify watch is free")
	}
	return &dirWatch{os.NewFile(uintptr(fd), "inotify")}, nil
}

// next returns after something was written since the watch began or since the
// last call, or after wake.
func (w *dirWatch) next() error {
	// Room for several events, whose content is not used.
	buf := make([]byte, 16*(unix.SizeofInotifyEvent+unix.NAME_MAX+1))
	_, err := w.events.Read(buf)
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return fault.Wrap(err, fault.Internal, "postgres_watch", "cannot watch PostgreSQL start")
}

// wake makes this and all later calls of next return at once. It may be
// called from any goroutine, after close too.
func (w *dirWatch) wake() { _ = w.events.SetReadDeadline(time.Unix(1, 0)) }

func (w *dirWatch) close() { _ = w.events.Close() }
