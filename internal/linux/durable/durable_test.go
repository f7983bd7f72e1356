package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWriteReplacesContentAndMode(t *testing.T) {
	for name, write := range map[string]func(string, []byte, fs.FileMode) error{"Replace": Replace, "WriteFile": WriteFile} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			check(t, os.WriteFile(path, []byte("old and longer"), 0o644))
			check(t, os.WriteFile(path+".tmp", []byte("a killed writer left this behind"), 0o666))
			check(t, write(path, []byte("new"), 0o600))
			got, err := os.ReadFile(path)
			check(t, err)
			st, err := os.Stat(path)
			check(t, err)
			if string(got) != "new" || st.Mode().Perm() != 0o600 {
				t.Errorf("after a write: got %q, mode %o; want \"new\", mode 600", got, st.Mode().Perm())
			}
			names, err := os.ReadDir(dir)
			check(t, err)
			if len(names) != 1 {
				t.Errorf("files in the directory after a write: got %v, want only the file", names)
			}
		})
	}
}

func TestFailedWriteKeepsTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	check(t, os.MkdirAll(filepath.Join(path, "child"), 0o755)) // rename(2) cannot replace it with a file
	if err := WriteFile(path, []byte("new"), 0o600); err == nil {
		t.Error("WriteFile over a directory: got no error")
	}
	if _, err := os.Stat(filepath.Join(path, "child")); err != nil {
		t.Errorf("the old entry after a failed write: %v", err)
	}
	if _, err := os.Stat(path + ".tmp"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary file after a failed write: got %v, want no such file", err)
	}
}

func TestSyncTreePassesOverSpecialFiles(t *testing.T) {
	dir := t.TempDir()
	check(t, os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755))
	check(t, os.WriteFile(filepath.Join(dir, "a", "b", "file"), []byte("x"), 0o400))
	check(t, os.Symlink("nowhere", filepath.Join(dir, "a", "link")))
	check(t, SyncTree(dir))
	check(t, SyncFileSystem(dir))
	if err := Sync(filepath.Join(dir, "missing")); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("Sync of a missing file: got %v, want an error with its name", err)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
