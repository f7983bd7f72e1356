package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lockRetry is how often a busy lock is tried again. flock(2) offers no wait
// that a context could end, so the lock is polled; builds take a minute.
const lockRetry = 100 * time.Millisecond

// lock takes the exclusive lock called name and returns its release. Locks
// exclude goroutines as well as processes, and end with the process. The files
// are their owner's alone: flock(2) asks for no more than an open file, so that
// who can read one can keep every build out.
func (s *Store) lock(ctx context.Context, name string, progress Progress) (release func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, "locks", name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(0o600); err != nil { // one that an earlier version made
		f.Close()
		return nil, err
	}
	tick := time.NewTicker(lockRetry)
	defer tick.Stop()
	for told := false; ; {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		if !told {
			progress.report("wait", "another process is preparing "+name)
			told = true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		}
	}
}

// buildDir makes an empty directory for a build of name and removes those
// that dead builds of the same name left. The lock called name must be held,
// so any directory found is dead.
func (s *Store) buildDir(name string) (string, error) {
	tmp := filepath.Join(s.dir, "tmp")
	prefix := name + "~"
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		s.log.Info("removing an unfinished image build", "dir", e.Name())
		if err := os.RemoveAll(filepath.Join(tmp, e.Name())); err != nil {
			return "", err
		}
	}
	return os.MkdirTemp(tmp, prefix)
}
