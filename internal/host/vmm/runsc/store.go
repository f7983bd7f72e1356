package runsc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/filesum"
	"github.com/wrenn-dev/wrenn/internal/linux/flock"
)

// Store is a directory of builds. It is safe for concurrent use, also by several
// processes.
type Store struct {
	dir string

	mu       sync.Mutex      // protects the following
	verified map[string]bool // builds whose files this process has read and found whole
}

// Open returns the store in dir, which Keep creates if it is missing. Sentries have
// user ids of their own and execute the sidecars of a release by name. They must be
// able to pass through the directories above dir.
func Open(dir string) *Store { return &Store{dir: dir, verified: make(map[string]bool)} }

// The prefixes of directories that are being made or removed.
const (
	newPrefix   = ".new-"
	trashPrefix = ".trash-"
	lockFile    = "lock"
)

// Builds returns the kept builds, the newest first. It leaves out those whose
// description is damaged: sandboxes under other builds must not need it.
func (s *Store) Builds() ([]Build, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var found []Build
	for _, e := range entries {
		if !idPattern.MatchString(e.Name()) {
			continue
		}
		b, err := read(filepath.Join(s.dir, e.Name()))
		if errors.Is(err, os.ErrNotExist) || fault.ReasonOf(err) == reasonDamaged {
			continue // being removed, or damaged
		}
		if err != nil {
			return nil, err
		}
		found = append(found, b)
	}
	slices.SortStableFunc(found, func(a, b Build) int { return b.made.Compare(a.made) })
	return found, nil
}

// Find returns the build id. The error is of kind WrongState, reason
// "vmm_build_missing", if it is not kept.
func (s *Store) Find(id string) (Build, error) {
	if idPattern.MatchString(id) {
		b, err := read(filepath.Join(s.dir, id))
		if !errors.Is(err, os.ErrNotExist) {
			return b, err
		}
	}
	return Build{}, fault.New(fault.WrongState, "vmm_build_missing", "the build %s of runsc is not kept on this host any more", id)
}

// Verify reads the files of b and compares them with their digests. It does not read
// a build again that this process has verified before. The error is of kind
// HostFailed, reason "vmm_build_damaged".
func (s *Store) Verify(b Build) error {
	s.mu.Lock()
	done := s.verified[b.ID]
	s.mu.Unlock()
	if done {
		return nil
	}
	program, _, err1 := filesum.SHA256(b.Program())
	agent, _, err2 := filesum.SHA256(b.AgentImage())
	sidecars, err3 := sumSidecars(filepath.Join(b.Dir, sidecarDir))
	if err := errors.Join(err1, err2, err3); err != nil || program != b.Digest || agent != b.Agent || sidecars != b.Sidecars {
		return errDamaged(err, b.ID)
	}
	s.setVerified(b.ID, true)
	return nil
}

func (s *Store) setVerified(id string, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if is {
		s.verified[id] = true
	} else {
		delete(s.verified, id)
	}
}

// Remove removes the build id. Sandboxes that run under it continue. An id that is
// not kept succeeds.
func (s *Store) Remove(ctx context.Context, id string) error {
	if !idPattern.MatchString(id) {
		return fmt.Errorf("%q is not the id of a build", id)
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	s.setVerified(id, false)
	trash := filepath.Join(s.dir, trashPrefix+id)
	err = os.Rename(filepath.Join(s.dir, id), trash)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(trash)
}

// lockPoll is how often a held lock is tried again.
const lockPoll = 50 * time.Millisecond

// lock keeps other makers and removers out, also those of other processes. The lock
// ends with the process.
func (s *Store) lock(ctx context.Context) (unlock func(), err error) {
	// Chmod, because sentries must pass through with any umask.
	if err := errors.Join(os.MkdirAll(s.dir, 0o711), os.Chmod(s.dir, 0o711)); err != nil {
		return nil, err
	}
	f, err := flock.Open(filepath.Join(s.dir, lockFile))
	if err != nil {
		return nil, err
	}
	if err := flock.Wait(ctx, f, lockPoll); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// removeRemains removes the directories that interrupted additions and removals have
// left. The lock must be held.
func (s *Store) removeRemains() error {
	var errs []error
	for _, prefix := range []string{newPrefix, trashPrefix} {
		names, err := filepath.Glob(filepath.Join(s.dir, prefix+"*"))
		errs = append(errs, err)
		for _, name := range names {
			errs = append(errs, os.RemoveAll(name))
		}
	}
	return errors.Join(errs...)
}
