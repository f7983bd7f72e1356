package snapshot

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Hold makes the caller a user of dir, which keeps it from being removed until
// Drop. It is NotFound snapshot_not_found if dir is not there.
func (s *Store) Hold(dir Dir) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := os.Stat(dir.Manifest()); err != nil {
		return fault.Wrap(err, fault.NotFound, "snapshot_not_found", "the snapshot is not there any more")
	}
	s.users[dir]++
	return nil
}

// Drop ends one use of dir.
func (s *Store) Drop(dir Dir) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[dir]--; s.users[dir] <= 0 {
		delete(s.users, dir)
	}
}

// Users returns how many sandboxes use dir.
func (s *Store) Users(dir Dir) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.users[dir]
}

// claim renames dir for removal, unless a sandbox uses it. The new name marks
// the directory as garbage, also after a crash.
func (s *Store) claim(dir Dir) (trash string, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[dir] > 0 {
		return "", false, nil
	}
	trash = filepath.Join(filepath.Dir(string(dir)), trashPrefix+filepath.Base(string(dir)))
	err = os.Rename(string(dir), trash)
	if errors.Is(err, os.ErrNotExist) {
		return "", false, nil
	}
	return trash, err == nil, err
}

// Remove removes dir if nobody uses it, and reports whether it did.
func (s *Store) Remove(dir Dir) (bool, error) {
	trash, ok, err := s.claim(dir)
	if !ok || err != nil {
		return false, err
	}
	return true, os.RemoveAll(trash)
}
