package image

import (
	"os"
	"path/filepath"
	"testing"
)

// TestLockFilesAreClosedToOthers: flock(2) needs no more than an open file, so
// that a user who could open the file could keep all builds out.
func TestLockFilesAreClosedToOthers(t *testing.T) {
	s := &Store{dir: t.TempDir()}
	if err := os.Mkdir(filepath.Join(s.dir, "locks"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.dir, "locks", "kernel")
	if err := os.WriteFile(path, nil, 0o644); err != nil { // as an earlier version made it
		t.Fatal(err)
	}
	release, err := s.lock(t.Context(), "kernel", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode of a lock file: got %o, want 600", st.Mode().Perm())
	}
}
