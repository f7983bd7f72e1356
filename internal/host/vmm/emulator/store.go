package emulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/filesum"
	"github.com/wrenn-dev/wrenn/internal/linux/flock"
)

const (
	buildFile = "build.json"
	lockFile  = "lock"
	// newPrefix marks a copy that is being made, or whose making was cut off.
	newPrefix = ".new-"
	// trashPrefix marks a copy that is being removed.
	trashPrefix = ".trash-"
)

var idPattern = regexp.MustCompile(`^[0-9a-f]{32}$`)

// Store is a directory of builds. Several processes may use one at a time.
type Store struct {
	dir string

	mu       sync.Mutex      // protects the following
	verified map[string]bool // builds whose files this process has read and found whole
}

// Open returns the store in dir, which Keep creates if it is missing. VM
// processes with user ids of their own must be able to pass through the
// directories above dir.
func Open(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	return &Store{dir: dir, verified: make(map[string]bool)}, nil
}

// Keep copies the emulator installed at path, whose version is version, into
// the store unless the same build is there already, and returns it. The copy
// is durable on return.
func (s *Store) Keep(ctx context.Context, path, version string) (Build, error) {
	parts, err := installed(ctx, path)
	if err != nil {
		return Build{}, err
	}
	if err := errors.Join(os.MkdirAll(s.dir, 0o711), os.Chmod(s.dir, 0o711)); err != nil {
		return Build{}, err
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return Build{}, err
	}
	defer unlock()
	if err := s.removeRemains(); err != nil {
		return Build{}, err
	}
	builds, err := s.Builds()
	if err != nil {
		return Build{}, err
	}
	for _, b := range builds {
		if b.madeFrom(parts) && s.Verify(ctx, b) == nil {
			return b, nil
		}
	}
	return s.copy(ctx, parts, version)
}

// madeFrom reports whether b was copied from exactly these installed files.
func (b Build) madeFrom(parts []part) bool {
	if len(parts) != len(b.Files) {
		return false
	}
	have := make(map[part]bool, len(parts))
	for _, p := range parts {
		have[p] = true
	}
	return !slices.ContainsFunc(b.Files, func(f File) bool { return !have[part{f.Path, f.Source}] })
}

// Builds returns the builds in the store, the newest first. It leaves out those whose
// description is damaged: VMs under other builds must not need it.
func (s *Store) Builds() ([]Build, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	type dated struct {
		Build
		made time.Time
	}
	var found []dated
	for _, e := range entries {
		if !idPattern.MatchString(e.Name()) {
			continue
		}
		b, made, err := s.read(e.Name())
		if errors.Is(err, os.ErrNotExist) || fault.ReasonOf(err) == reasonDamaged {
			continue // being removed, or damaged
		}
		if err != nil {
			return nil, err
		}
		found = append(found, dated{b, made})
	}
	slices.SortStableFunc(found, func(a, b dated) int { return b.made.Compare(a.made) })
	builds := make([]Build, len(found))
	for i, f := range found {
		builds[i] = f.Build
	}
	return builds, nil
}

const reasonDamaged = "vmm_build_damaged"

func (s *Store) read(id string) (Build, time.Time, error) {
	b := Build{Dir: filepath.Join(s.dir, id)}
	path := filepath.Join(b.Dir, buildFile)
	st, err := os.Stat(path)
	if err != nil {
		return b, time.Time{}, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return b, time.Time{}, err
	}
	if err := json.Unmarshal(data, &b); err != nil || b.ID != id {
		return b, time.Time{}, fault.Wrap(err, fault.HostFailed, reasonDamaged,
			"the kept emulator build %s is damaged: its description cannot be read", id)
	}
	return b, st.ModTime(), nil
}

// Verify reads every file of b and compares it with its digest; it does not read a
// build again that this process has verified before. The error is of kind
// HostFailed, reason "vmm_build_damaged", and names the file.
func (s *Store) Verify(ctx context.Context, b Build) error {
	s.mu.Lock()
	done := s.verified[b.ID]
	s.mu.Unlock()
	if done {
		return nil
	}
	for _, f := range b.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		sum, _, err := filesum.SHA256(filepath.Join(b.Dir, f.Path))
		if err == nil && sum != f.SHA256 {
			err = errors.New("its content has changed")
		}
		if err != nil {
			return fault.Wrap(err, fault.HostFailed, reasonDamaged,
				"the kept emulator build %s (version %s) is damaged: %s is not what was kept", b.ID, b.Version, f.Path)
		}
	}
	s.mu.Lock()
	s.verified[b.ID] = true
	s.mu.Unlock()
	return nil
}

// Remove removes the build id. Processes that run it continue. An id that is not
// there succeeds.
func (s *Store) Remove(ctx context.Context, id string) error {
	if !idPattern.MatchString(id) {
		return fmt.Errorf("%q is not the id of a build", id)
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	s.mu.Lock()
	delete(s.verified, id)
	s.mu.Unlock()
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

// lockPoll is how often a held lock is tried again.
const lockPoll = 50 * time.Millisecond

// lock keeps other makers and removers out, also those of other processes. The
// lock ends with the process.
func (s *Store) lock(ctx context.Context) (unlock func(), err error) {
	f, err := flock.Open(filepath.Join(s.dir, lockFile))
	if err != nil {
		return nil, err
	}
	if err := flock.Wait(ctx, f, lockPoll); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}
