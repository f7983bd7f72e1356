package emulator

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/kept"
	"github.com/wrenn-dev/wrenn/internal/linux/filesum"
)

// Store is a directory of builds. It is safe for concurrent use, also by several
// processes.
type Store struct{ dir *kept.Dir }

// Open returns the store in dir, which Keep creates if it is missing. VM
// processes with user ids of their own must be able to pass through the
// directories above dir.
func Open(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	return &Store{kept.Open(dir)}, nil
}

// Keep copies the emulator installed at path, whose version is version, into
// the store unless the same build is there already, and returns it. The copy
// is durable on return.
func (s *Store) Keep(ctx context.Context, path, version string) (Build, error) {
	parts, err := installed(ctx, path)
	if err != nil {
		return Build{}, err
	}
	unlock, err := s.dir.Lock(ctx)
	if err != nil {
		return Build{}, err
	}
	defer unlock()
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
	for _, f := range b.Files {
		if !have[part{f.Path, f.Source}] {
			return false
		}
	}
	return true
}

// Builds returns the builds in the store, the newest first. It leaves out those whose
// description is damaged: VMs under other builds must not need it.
func (s *Store) Builds() ([]Build, error) {
	return kept.Builds(s.dir, s.read, func(err error) bool { return fault.ReasonOf(err) == reasonDamaged })
}

const reasonDamaged = "vmm_build_damaged"

func (s *Store) read(id string) (Build, time.Time, error) {
	b := Build{}
	made, err := s.dir.Describe(id, &b)
	if errors.Is(err, kept.ErrDamaged) || err == nil && b.ID != id {
		err = fault.Wrap(err, fault.HostFailed, reasonDamaged,
			"the kept emulator build %s is damaged: its description cannot be read", id)
	}
	b.Dir = s.dir.Path(id)
	return b, made, err
}

// Verify reads every file of b and compares it with its digest; it does not read a
// build again that this process has verified before. The error is of kind
// HostFailed, reason "vmm_build_damaged", and names the file.
func (s *Store) Verify(ctx context.Context, b Build) error {
	return s.dir.Verify(b.ID, func() error {
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
		return nil
	})
}

// Remove removes the build id. Processes that run it continue. An id that is not
// there succeeds.
func (s *Store) Remove(ctx context.Context, id string) error { return s.dir.Remove(ctx, id) }
