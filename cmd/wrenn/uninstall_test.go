package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUninstallLeavesOtherFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("wrenn uninstall needs root")
	}
	touch := func(path string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	exists := func(path string) bool {
		_, err := os.Lstat(path)
		return !errors.Is(err, fs.ErrNotExist)
	}
	t.Run("no installation", func(t *testing.T) {
		dir := t.TempDir()
		touch(filepath.Join(dir, "host", "mine"))
		got := wrenn(t, nil, "uninstall", "--yes", "--data-dir", dir)
		if got.code != 0 || !exists(filepath.Join(dir, "host", "mine")) || !strings.Contains(got.err, "no installation") {
			t.Errorf("got %+v, want the directory as it was", got)
		}
	})
	t.Run("other files beside", func(t *testing.T) {
		dir := t.TempDir()
		touch(layout{dir}.lock())
		touch(filepath.Join(dir, "postgres", "data", "x"))
		touch(filepath.Join(dir, "mine", "x"))
		got := wrenn(t, nil, "uninstall", "--yes", "--data-dir", dir)
		if got.code != 0 || exists(layout{dir}.lock()) || exists(filepath.Join(dir, "postgres")) || !exists(filepath.Join(dir, "mine", "x")) {
			t.Errorf("got %+v, want the parts of the installation removed and nothing else", got)
		}
	})
	t.Run("nothing else", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "a b")
		l := layout{dir}
		for _, path := range []string{
			l.lock(), l.apiKey(), l.ballast().Path, l.agentSocket(), filepath.Join(l.builds(), "x"), filepath.Join(l.images(), "x"),
		} {
			touch(path)
		}
		got := wrenn(t, nil, "uninstall", "--yes", "--data-dir", dir)
		if got.code != 0 || exists(dir) {
			t.Errorf("got %+v, want %s removed", got, dir)
		}
	})
}
