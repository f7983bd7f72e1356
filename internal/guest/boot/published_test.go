package boot

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPublish(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "settings")
	for _, content := range []string{"", "a long record with a secret", "short", ""} {
		if err := publish(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("got %q, %v; want %q", got, err, content)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("got mode %v, %v; want 0600", info.Mode(), err)
		}
	}
}

// A file that could not be replaced holds settings of earlier, and must not stay.
func TestPublishRemovesTheFileOnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "settings")
	if err := publish(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	if err := publish(path, make([]byte, maxMemory+1)); err == nil {
		t.Error("published more than the limit")
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the old settings after an error: got %v, want no file", err)
	}
}

// Root of the guest can put anything at the path. The agent neither writes elsewhere nor waits.
func TestPublishRefusesOtherFiles(t *testing.T) {
	dir := t.TempDir()
	target, path := filepath.Join(dir, "target"), filepath.Join(dir, "settings")
	if err := os.WriteFile(target, []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		make func() error
	}{
		{"a link", func() error { return os.Symlink(target, path) }},
		{"a fifo", func() error { return unix.Mkfifo(path, 0o600) }},
		{"a directory", func() error { return os.Mkdir(path, 0o755) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.make(); err != nil {
				t.Fatal(err)
			}
			if err := publish(path, []byte("secret")); err == nil {
				t.Error("published into it")
			}
			if got, err := os.ReadFile(target); err != nil || string(got) != "kept" {
				t.Errorf("the target: got %q, %v", got, err)
			}
			if err := publish(path, []byte("next")); err != nil {
				t.Errorf("publish after it was removed: %v", err)
			}
			_ = os.Remove(path)
		})
	}
}
