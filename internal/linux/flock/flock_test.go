package flock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestOpenClosesAnOldLockFileToOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	open(t, path)
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode of an old lock file after Open: got %o, want 600", st.Mode().Perm())
	}
}

func TestOpenFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Join(dir, "lock")); err != nil {
		t.Fatal(err)
	}
	if f, err := Open(filepath.Join(dir, "lock")); err == nil {
		_ = f.Close()
		t.Error("Open of a symbolic link: got no error")
	}
	if _, err := os.Lstat(filepath.Join(dir, "elsewhere")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the link's target after Open: got %v, want no such file", err)
	}
}

func TestTry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	a, b := open(t, path), open(t, path)
	if err := Try(a); err != nil {
		t.Fatal(err)
	}
	if err := Try(b); !errors.Is(err, ErrLocked) {
		t.Errorf("Try while another file holds the lock: got %v, want ErrLocked", err)
	}
	if err := TryShared(b); !errors.Is(err, ErrLocked) {
		t.Errorf("TryShared while another file holds the lock: got %v, want ErrLocked", err)
	}
	_ = a.Close()
	if err := TryShared(b); err != nil {
		t.Errorf("TryShared after the holder closed its file: got %v", err)
	}
	if err := TryShared(open(t, path)); err != nil {
		t.Errorf("a second shared lock: got %v", err)
	}
}

func TestWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	holder, waiter := open(t, path), open(t, path)
	if err := Try(holder); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := Wait(ctx, waiter, time.Millisecond); !errors.Is(err, cause) {
		t.Errorf("Wait with a cancelled context: got %v, want its cause", err)
	}
	got := make(chan error)
	go func() { got <- Wait(t.Context(), waiter, time.Millisecond) }()
	_ = holder.Close()
	if err := <-got; err != nil {
		t.Errorf("Wait after the holder closed its file: got %v", err)
	}
}
