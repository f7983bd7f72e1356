package runsc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/kept"
	"github.com/wrenn-dev/wrenn/internal/linux/filesum"
)

// Store is a directory of builds. It is safe for concurrent use, also by several
// processes.
type Store struct{ dir *kept.Dir }

// Open returns the store in dir, which Keep creates if it is missing. Sentries have
// user ids of their own and execute the sidecars of a release by name. They must be
// able to pass through the directories above dir.
func Open(dir string) *Store { return &Store{kept.Open(dir)} }

// Builds returns the kept builds, the newest first. It leaves out those whose
// description is damaged: sandboxes under other builds must not need it.
func (s *Store) Builds() ([]Build, error) {
	return kept.Builds(s.dir, s.read, func(err error) bool { return fault.ReasonOf(err) == reasonDamaged })
}

// Find returns the build id. The error is of kind WrongState, reason
// "vmm_build_missing", if it is not kept.
func (s *Store) Find(id string) (Build, error) {
	if kept.IsID(id) {
		b, _, err := s.read(id)
		if !errors.Is(err, os.ErrNotExist) {
			return b, err
		}
	}
	return Build{}, fault.New(fault.WrongState, "vmm_build_missing", "the build %s of runsc is not kept on this host any more", id)
}

// read returns the build id, and the time at which it was made.
func (s *Store) read(id string) (Build, time.Time, error) {
	b := Build{}
	made, err := s.dir.Describe(id, &b)
	if errors.Is(err, os.ErrNotExist) {
		return b, made, err
	}
	if errors.Is(err, kept.ErrDamaged) || err == nil && !b.describes(id) {
		err = errDamaged(err, id)
	}
	b.Dir = s.dir.Path(id)
	return b, made, err
}

// Verify reads the files of b and compares them with their digests. It does not read
// a build again that this process has verified before. The error is of kind
// HostFailed, reason "vmm_build_damaged".
func (s *Store) Verify(b Build) error {
	return s.dir.Verify(b.ID, func() error {
		program, _, err1 := filesum.SHA256(b.Program())
		agent, _, err2 := filesum.SHA256(b.AgentImage())
		sidecars, err3 := sumSidecars(filepath.Join(b.Dir, sidecarDir))
		if err := errors.Join(err1, err2, err3); err != nil || program != b.Digest || agent != b.Agent || sidecars != b.Sidecars {
			return errDamaged(err, b.ID)
		}
		return nil
	})
}

// Remove removes the build id. Sandboxes that run under it continue. An id that is
// not kept succeeds.
func (s *Store) Remove(ctx context.Context, id string) error { return s.dir.Remove(ctx, id) }
