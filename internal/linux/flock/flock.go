// Package flock takes advisory locks on open files, as flock(2) defines them.
//
// It owns nothing: the caller opens the file and closes it. A lock belongs to
// the open file, so that it excludes goroutines that open the file themselves as
// well as other processes. The kernel ends it when the file is closed, which a
// process that is killed does too. The package never blocks without a context.
//
// Anybody who can open a file can lock it. A lock file therefore belongs to one
// user and has mode 0600; Open makes it so.
package flock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLocked is returned while another open file holds a lock in the way.
var ErrLocked = errors.New("locked by another process")

// Open opens the lock file at path and creates it if it is missing. Only its
// owner can open it afterwards: a file that an earlier version made with a wider
// mode is closed to others. It does not follow a symbolic link.
func Open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(0o600); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Try takes the exclusive lock of f, or returns ErrLocked at once.
func Try(f *os.File) error { return try(f, unix.LOCK_EX) }

// TryShared takes a shared lock of f, or returns ErrLocked at once.
func TryShared(f *os.File) error { return try(f, unix.LOCK_SH) }

func try(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EWOULDBLOCK):
			return ErrLocked
		case !errors.Is(err, unix.EINTR):
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
	}
}

// Wait takes the exclusive lock of f and tries again at the given interval while
// another open file holds it. flock(2) has no wait that a context could end. The
// error is ctx's cause if ctx ends first.
func Wait(ctx context.Context, f *os.File, interval time.Duration) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		err := Try(f)
		if !errors.Is(err, ErrLocked) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
