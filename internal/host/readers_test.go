package host_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestFilesAreRootsAlone: with a running and a paused sandbox and a snapshot, no
// other user can open anything of theirs, whether by its directories or, should
// those be passed, by the file's own mode.
func TestFilesAreRootsAlone(t *testing.T) {
	b := newBench(t, "wsfil")
	running, paused := b.create(), b.create()
	_, err := b.Snapshot(t.Context(), running, "files", false)
	check(t, err)
	_, err = b.Pause(t.Context(), paused)
	check(t, err)
	files := 0
	check(t, filepath.WalkDir(b.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == b.dir {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		files++
		st := info.Sys().(*syscall.Stat_t)
		memory := filepath.Base(path) == "memory"
		if others := info.Mode().Perm() & 0o007; others != 0 {
			t.Errorf("%s has mode %o, want nothing for others", path, info.Mode().Perm())
		}
		if st.Uid != 0 {
			t.Errorf("%s belongs to user %d, want root", path, st.Uid)
		}
		if memory == (st.Gid == 0) {
			t.Errorf("%s belongs to group %d; memory has a group of its own, the rest root's", path, st.Gid)
		}
		return nil
	}))
	if files < 10 {
		t.Errorf("only %d files were looked at", files)
	}
	// The snapshot's memory can still be mapped by a VM.
	_, err = b.CreateFrom(t.Context(), newRef(), sandbox.Spec{}.WithDefaults(), "files")
	check(t, err)
}
