package gvisor_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/cgroup"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// TestFailedSaveLeavesTheSandbox: a snapshot that finds the disk full fails, and the
// sandbox goes on and can be saved elsewhere.
func TestFailedSaveLeavesTheSandbox(t *testing.T) {
	d, image := newDriver(t)
	g := newGuest(t, image)
	vm, err := d.Start(t.Context(), g.cfg)
	check(t, err)
	t.Cleanup(func() { kill(t, vm) })
	check(t, g.Ready(t.Context()))
	before, err := g.Count(t.Context())
	check(t, err)
	full := t.TempDir()
	check(t, unix.Mount("full", full, "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { check(t, unix.Unmount(full, unix.MNT_DETACH)) })

	check(t, g.Freeze(t.Context()))
	check(t, vm.Pause(t.Context()))
	if _, err := vm.SaveDelta(t.Context(), full); err == nil {
		t.Fatal("a snapshot to a full disk succeeded")
	}
	elsewhere := t.TempDir()
	_, err = vm.SaveDelta(t.Context(), elsewhere)
	check(t, err)
	check(t, d.CheckDelta(g.cfg, elsewhere))
	check(t, vm.Resume(t.Context()))
	check(t, g.Identify(t.Context()))
	after, err := g.Count(t.Context())
	check(t, err)
	if after < before {
		t.Fatalf("the counter went from %d back to %d", before, after)
	}
}

// TestGuestThatPowersOff: the end of the guest's first process is a shutdown, and not
// a failure of the sentry.
func TestGuestThatPowersOff(t *testing.T) {
	g, v := running(t)
	go func() { _, _ = g.Shell(t.Context(), "kill -TERM 1") }()
	select {
	case <-v.Exited():
	case <-t.Context().Done():
		t.Fatal("the end of the guest was not noticed")
	}
	if got := v.Exit(); got.Cause != vmm.CauseGuestShutdown {
		t.Fatalf("exit %+v, want a shutdown of the guest", got)
	}
}

// TestCrashIsReported: the end of a sentry that crashes says why, also to an agent that
// has adopted it, and does not wait for a reader of a long report.
func TestCrashIsReported(t *testing.T) {
	d, image := newDriver(t)
	g := newGuest(t, image)
	// A sentry that cannot start a thread ends itself.
	g.cfg.Cgroup = newGroup(t, filepath.Base(g.cfg.Network.Namespace)+"c", cgroup.Limits{PIDs: 60}).Dir()
	v, err := d.Start(t.Context(), g.cfg)
	check(t, err)
	check(t, g.Ready(t.Context()))
	v.Detach()
	v, err = d.Adopt(t.Context(), v.Record())
	check(t, err)
	t.Cleanup(func() { kill(t, v) })
	go func() { _, _ = g.Shell(t.Context(), "for i in $(seq 200); do sleep 1000 & done") }()
	select {
	case <-v.Exited():
	case <-t.Context().Done():
		t.Fatal("the end of the sentry was not noticed")
	}
	if got := v.Exit(); got.Cause != vmm.CauseVMM || !strings.Contains(got.Detail, "runtime") {
		t.Errorf("exit %+v, want the sentry's own end with its report", got)
	}
}

// TestRootImageIsKnownByItsContent: a saved sandbox is restored where its root image has
// moved, and refused where another image has taken the path.
func TestRootImageIsKnownByItsContent(t *testing.T) {
	d, image := newDriver(t)
	g := newGuest(t, image)
	g.cfg.RootDigest = "first"
	moved := filepath.Join(hosttest.Dir(t), "moved.erofs")
	check(t, os.Symlink(image, moved))
	vm, from := savedGuest(t, d, g)
	kill(t, vm)
	rebuilt := g.cfg
	rebuilt.RootDigest = "second"
	if _, err := d.Restore(t.Context(), rebuilt, from); fault.ReasonOf(err) != "snapshot_incompatible" {
		t.Fatalf("restore with another image at the same path: %v, want snapshot_incompatible", err)
	}
	g.cfg.RootImage = moved
	vm, err := d.Restore(t.Context(), g.cfg, from)
	check(t, err)
	t.Cleanup(func() { kill(t, vm) })
	check(t, g.Identify(t.Context()))
	if out, err := g.Shell(t.Context(), "python3 -c 'import decimal; print(decimal.Decimal(1))'"); err != nil || out != "1\n" {
		t.Errorf("a program of the moved image: %q, %v", out, err)
	}
}
