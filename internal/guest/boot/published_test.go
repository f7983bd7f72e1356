package boot

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func newPublished(t *testing.T) (p *Published, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "run", "settings")
	p, err := NewPublished(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.file.Close() })
	return p, path
}

func TestPublish(t *testing.T) {
	p, path := newPublished(t)
	for _, content := range []string{"", "a long record with a secret", "short", ""} {
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := p.Replace([]byte(content)); err != nil {
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

// TestPublishTellsWatchers: inotify tells of new settings after they have been written.
func TestPublishTellsWatchers(t *testing.T) {
	p, path := newPublished(t)
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_ATTRIB|unix.IN_MODIFY); err != nil {
		t.Fatal(err)
	}
	if err := p.Replace([]byte("new")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := unix.Read(fd, b)
	if err != nil || n < unix.SizeofInotifyEvent {
		t.Fatalf("read %d bytes of events, %v", n, err)
	}
	// Events on a file have no name, so that all have one size. The kernel joins equal ones.
	if last := b[n-unix.SizeofInotifyEvent:]; last[4] != unix.IN_ATTRIB {
		t.Errorf("the last event is %#x, want IN_ATTRIB, which the readers watch for", last[4])
	}
}

// TestPublishWipesOnError: settings of earlier do not stay if they could not be replaced.
func TestPublishWipesOnError(t *testing.T) {
	p, path := newPublished(t)
	if err := p.Replace([]byte("old")); err != nil {
		t.Fatal(err)
	}
	if err := p.Replace(make([]byte, maxMemory+1)); err == nil {
		t.Error("published more than the limit")
	}
	if got, err := os.ReadFile(path); err != nil || len(got) != 0 {
		t.Errorf("the old settings after an error: got %q, %v; want none", got, err)
	}
}

// TestPublishNeedsNoPath: root of the guest can put anything at the path. The agent neither writes
// there nor waits, and overwrites the settings where they are.
func TestPublishNeedsNoPath(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(path, target string) error
	}{
		{"nothing", func(string, string) error { return nil }},
		{"a link", func(path, target string) error { return os.Symlink(target, path) }},
		{"a fifo", func(path, _ string) error { return unix.Mkfifo(path, 0o600) }},
		{"a directory", func(path, _ string) error { return os.Mkdir(path, 0o755) }},
		{"a link in place of the directory", func(path, target string) error {
			dir := filepath.Dir(path)
			return errors.Join(os.Remove(dir), os.Symlink(filepath.Dir(target), dir), os.Symlink(target, path))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, path := newPublished(t)
			target := filepath.Join(t.TempDir(), "target")
			if err := os.WriteFile(target, []byte("kept"), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := p.Replace([]byte("old")); err != nil {
				t.Fatal(err)
			}
			kept, err := os.Open(path) // as a program that has it open
			if err != nil {
				t.Fatal(err)
			}
			defer kept.Close()
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := c.make(path, target); err != nil {
				t.Fatal(err)
			}
			if err := p.Replace(nil); err != nil {
				t.Errorf("replace: %v", err)
			}
			if got, err := os.ReadFile(target); err != nil || string(got) != "kept" {
				t.Errorf("the target: got %q, %v", got, err)
			}
			if info, err := kept.Stat(); err != nil || info.Size() != 0 {
				t.Errorf("the file: got %d bytes, %v; want it empty", info.Size(), err)
			}
		})
	}
}

// TestPublishedFileIsNew: Init takes no file that is there already.
func TestPublishedFileIsNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "settings")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := NewPublished(path); err == nil {
		t.Errorf("got %v for a path with a file", p.file.Name())
	}
}
