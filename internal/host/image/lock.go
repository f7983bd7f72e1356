package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/linux/flock"
)

// lockRetry is the interval at which a busy lock is tried again; builds take a
// minute.
const lockRetry = 100 * time.Millisecond

// lock takes the exclusive lock called name and returns its release. Locks
// exclude goroutines as well as processes, and end with the process. Only
// their owner can open the files, and so nobody else can keep builds out.
func (s *Store) lock(ctx context.Context, name string, progress Progress) (release func(), err error) {
	f, err := flock.Open(filepath.Join(s.dir, "locks", name))
	if err != nil {
		return nil, err
	}
	err = flock.Try(f)
	if errors.Is(err, flock.ErrLocked) {
		progress.report("wait", "another process is preparing "+name)
		err = flock.Wait(ctx, f, lockRetry)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
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
