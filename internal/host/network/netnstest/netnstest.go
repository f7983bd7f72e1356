// Package netnstest prepares tests of named network namespaces: it makes a mount
// namespace of the test's own with an empty /run, and does the same as ip-netns(8) to
// the mounts of a host.
//
// Tests of the network and of the host manager call it. It changes nothing
// outside the process that PrivateMounts starts.
package netnstest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// variable names, in the environment, the test that runs in mounts of its own.
const variable = "WRENN_TEST_PRIVATE_MOUNTS"

// Dir is where ip-netns(8) keeps its names.
const Dir = "/run/netns"

// PrivateMounts runs the calling top-level test once more, in a process with a
// mount namespace of its own, and reports whether this is that process. The
// caller returns at once if it is not. The test has passed only if it passed
// there.
func PrivateMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(variable) == t.Name() {
		FreshRun(t)
		return true
	}
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v", "-test.count=1"}
	if deadline, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+untilDeadline(deadline))
	}
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), variable+"="+t.Name())
	// The Go runtime makes every mount private after this unshare.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("in mounts of its own: %v", err)
	}
	return false
}

// FreshRun covers /run with an empty file system, so that a case begins without
// the names and mounts of the one before.
func FreshRun(t testing.TB) {
	t.Helper()
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		t.Fatalf("mount a tmpfs on /run: %v", err)
	}
}

// Shared makes every mount shared, as they are on hosts with systemd.
func Shared(t testing.TB) {
	t.Helper()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		t.Fatalf("make the mounts shared: %v", err)
	}
}

// Add is "ip netns add name": it makes the directory of names a shared mount of
// itself if it is not one, which hides mounts that were in it before, and gives
// a new namespace a name. The steps are those of iproute2, ip/ipnetns.c.
func Add(t testing.TB, name string) {
	t.Helper()
	if err := add(name); err != nil {
		t.Fatalf("ip netns add %s: %v", name, err)
	}
}

func add(name string) error {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return err
	}
	err := unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if errors.Is(err, unix.EINVAL) {
		if err = unix.Mount(Dir, Dir, "none", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "")
		}
	}
	if err != nil {
		return err
	}
	path := filepath.Join(Dir, name)
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0)
	if err != nil {
		return err
	}
	_ = f.Close()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // without an unlock: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "none", unix.MS_BIND, "")
		}
		done <- err
	}()
	return <-done
}

// untilDeadline is the time that a child process has if the caller is to
// report its failure before deadline.
func untilDeadline(deadline time.Time) string {
	return (time.Until(deadline) * 9 / 10).String()
}
