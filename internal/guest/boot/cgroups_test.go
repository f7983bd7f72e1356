package boot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/linux/cgroupfs"
)

// newCgroup makes a cgroup v2 for the test, or skips; it fails instead where
// WRENN_REQUIRE demands root.
func newCgroup(t *testing.T) string {
	t.Helper()
	if found, err := cgroupfs.Find(); err == nil && found.Unified != "" && unix.Access(found.Unified, unix.W_OK) == nil {
		dir, err := os.MkdirTemp(found.Unified, "wrenn-test-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Remove(dir); err != nil {
				t.Errorf("a cgroup was left: %v", err)
			}
		})
		return dir
	}
	if slices.Contains(strings.Split(os.Getenv("WRENN_REQUIRE"), ","), "root") {
		t.Fatal("no writable cgroup v2 although WRENN_REQUIRE has root")
	}
	t.Skip("needs root and a cgroup v2 hierarchy")
	return ""
}

func TestFreezeAndThaw(t *testing.T) {
	dir := newCgroup(t)
	below := filepath.Join(dir, "command")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(below) })
	fd, err := unix.Open(below, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	child, err := os.StartProcess("/bin/sleep", []string{"sleep", "1000"}, &os.ProcAttr{
		Sys: &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Kill()
		_, _ = child.Wait()
	}()

	users := NewUsers(dir)
	for range 2 {
		if frozen, err := users.Freeze(t.Context()); err != nil || frozen != 1 {
			t.Fatalf("froze %d, %v", frozen, err)
		}
		events, err := os.ReadFile(filepath.Join(below, "cgroup.events"))
		if err != nil || !strings.Contains(string(events), "frozen 1") {
			t.Errorf("%s, %v", events, err)
		}
	}
	if err := users.Thaw(t.Context()); err != nil {
		t.Fatal(err)
	}
	if frozen, err := NewUsers(dir).count(); err != nil || frozen != 1 {
		t.Errorf("%d, %v", frozen, err)
	}
}

// TestFreezeThatIsUndone: a group that another process thaws before it is frozen does not
// keep the caller waiting.
func TestFreezeThatIsUndone(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"cgroup.events": "populated 1\nfrozen 0\n", "cgroup.freeze": "0"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		word := filepath.Join(dir, "cgroup.freeze")
		for ctx.Err() == nil {
			if text, _ := os.ReadFile(word); string(text) == "1" {
				_ = os.WriteFile(word, []byte("0"), 0o600)
				return
			}
			runtime.Gosched()
		}
	}()
	events, _, err := setFrozen(ctx, dir, true, nil)
	if !errors.Is(err, errUndone) {
		t.Fatalf("the caller was told %v, want %v", err, errUndone)
	}
	if _, err := unix.FcntlInt(uintptr(events), unix.F_GETFD, 0); err == nil {
		t.Error("a descriptor was left open")
	}
}

func TestFreezeWithoutCgroup(t *testing.T) {
	if _, err := NewUsers(t.TempDir()).Freeze(t.Context()); err == nil {
		t.Error("froze nothing and was content")
	}
}

func TestReserve(t *testing.T) {
	for _, tt := range []struct{ total, want uint64 }{
		{40 << 20, 20 << 20}, {128 << 20, 32 << 20}, {400 << 20, 50 << 20}, {8 << 30, 64 << 20},
	} {
		if got := reserve(tt.total); got != tt.want {
			t.Errorf("reserve(%d MiB) = %d MiB, want %d", tt.total>>20, got>>20, tt.want>>20)
		}
	}
}

// TestFreezeWhileGroupsComeAndGo: groups of other commands are made and removed
// all the time, and do not stop a freeze.
func TestFreezeWhileGroupsComeAndGo(t *testing.T) {
	dir := newCgroup(t)
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			name := filepath.Join(dir, strconv.Itoa(i%8))
			if os.Mkdir(name, 0o755) == nil {
				_ = os.Remove(name)
			}
		}
	}()
	defer func() { close(done); <-stopped }()
	users := NewUsers(dir)
	for range 3000 {
		if _, err := users.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := users.Thaw(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
