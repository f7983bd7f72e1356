package runsc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/linux/filesum"
)

// Keep copies an installed program, its sidecars and the image of the guest agent at
// path agent into the store, unless the same build is there and whole, and returns
// it. The copy is durable on return. A program of which the store has no build has to
// pass Try first: it has not run on this machine before.
func (s *Store) Keep(ctx context.Context, from Installed, agent string) (Build, error) {
	unlock, err := s.dir.Lock(ctx)
	if err != nil {
		return Build{}, err
	}
	defer unlock()
	b := Build{Version: from.Version, Digest: from.Digest, Sidecars: from.Sidecars}
	if b.Agent, _, err = filesum.SHA256(agent); err != nil {
		return Build{}, fmt.Errorf("read the image of the guest agent: %w", err)
	}
	b.ID = b.ContentID()
	if kept, err := s.Find(b.ID); err == nil && s.Verify(kept) == nil {
		return kept, nil
	}
	if known, err := s.knows(from); err != nil {
		return Build{}, err
	} else if !known {
		if err := from.Try(ctx); err != nil {
			return Build{}, err
		}
	}
	if err := s.copy(ctx, b, from, agent); err != nil {
		return Build{}, fmt.Errorf("keep %s: %w", from.Path, err)
	}
	b, err = s.Find(b.ID)
	if err != nil {
		return Build{}, err
	}
	return b, s.Verify(b) // an update of the program meanwhile would give half a build
}

// knows reports whether a build of the program is kept, with any guest agent. One that
// cannot be read does not count.
func (s *Store) knows(in Installed) (bool, error) {
	builds, err := s.Builds()
	return slices.ContainsFunc(builds, func(b Build) bool { return b.Digest == in.Digest && b.Sidecars == in.Sidecars }), err
}

// copy makes the directory of b under a temporary name and renames it. A directory
// of the same name was damaged and is replaced. The lock must be held.
func (s *Store) copy(ctx context.Context, b Build, from Installed, agent string) error {
	tmp, err := s.dir.New()
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) // holds a damaged build, or nothing, once it is published
	if err := place(ctx, filepath.Join(tmp, programFile), from.Path, 0o555, from.immutable); err != nil {
		return err
	}
	if err := place(ctx, filepath.Join(tmp, agentFile), agent, 0o400, true); err != nil {
		return err
	}
	for _, name := range from.SidecarNames {
		err := place(ctx, filepath.Join(tmp, sidecarDir, name), filepath.Join(from.sidecars(), name), 0o555, false)
		if err != nil {
			return err
		}
	}
	return s.dir.Publish(tmp, b.ID, b)
}

// place makes the file to with the content of the file from. An immutable file,
// which is only ever replaced by another one, is linked where that is possible.
func place(ctx context.Context, to, from string, mode os.FileMode, immutable bool) error {
	if immutable && os.Link(from, to) == nil {
		return nil
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.Chmod(filepath.Dir(to), 0o755)); err != nil {
		return err
	}
	if _, err := disk.Clone(ctx, to, from); err != nil {
		return err
	}
	return os.Chmod(to, mode)
}
