package emulator_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/emulator"
)

// installedQEMU returns the path of the machine's QEMU.
func installedQEMU(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		if hosttest.Required("vm") {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}

func open(t *testing.T, dir string) *emulator.Store {
	t.Helper()
	s, err := emulator.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func keep(t *testing.T, s *emulator.Store, path string) emulator.Build {
	t.Helper()
	b, err := s.Keep(t.Context(), path, "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// otherBuild returns a copy of the binary at path with another digest.
func otherBuild(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), filepath.Base(path))
	if err := os.WriteFile(other, append(data, "another build"...), 0o755); err != nil {
		t.Fatal(err)
	}
	return other
}

// TestKeptBuildRunsByItself starts a microvm of a kept build in a root
// directory that holds the build and nothing else.
func TestKeptBuildRunsByItself(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("chroot(2) needs root")
	}
	b := keep(t, open(t, t.TempDir()), installedQEMU(t))
	path, argv, env := b.Command("/", "-M", "microvm", "-accel", "tcg", "-nodefaults", "-no-user-config",
		"-display", "none", "-S", "-qmp", "stdio")
	cmd := &exec.Cmd{Path: path, Args: argv, Env: env, Dir: "/", SysProcAttr: &syscall.SysProcAttr{Chroot: b.Dir}}
	cmd.Stdin = strings.NewReader(`{"execute": "qmp_capabilities"}{"execute": "query-status"}{"execute": "quit"}`)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"status": "prelaunch"`) {
		t.Fatalf("the kept build in a root of its own: %v, said %s", err, out)
	}
}

func TestKeepTwiceIsOneBuild(t *testing.T) {
	s, path := open(t, t.TempDir()), installedQEMU(t)
	first, second := keep(t, s, path), keep(t, s, path)
	if first.ID != second.ID {
		t.Fatalf("the same files are the builds %s and %s", first.ID, second.ID)
	}
	other := keep(t, s, otherBuild(t, path))
	if other.ID == first.ID || other.Digest == first.Digest {
		t.Fatalf("another binary is the same build: %+v", other)
	}
	if other.Firmware != first.Firmware {
		t.Fatal("another binary changed the digest of the ROM images")
	}
	builds, err := s.Builds()
	if err != nil || len(builds) != 2 || builds[0].ID != other.ID || builds[0].Dir != other.Dir {
		t.Fatalf("the store has %v (%v), want the newer build and then the older one", builds, err)
	}
}

// TestKeepIsAtomic: makers at the same time agree on one build, a making that
// was cut off leaves nothing that counts, and a failed one leaves nothing.
func TestKeepIsAtomic(t *testing.T) {
	dir, path := t.TempDir(), installedQEMU(t)
	if err := os.MkdirAll(filepath.Join(dir, ".new-cut-off", "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 3 {
		s := open(t, dir) // as other processes have it
		group.Go(func() {
			if _, err := s.Keep(t.Context(), path, "1.2.3"); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open(t, dir).Keep(ended, otherBuild(t, path), "1.2.3"); err == nil {
		t.Error("a cancelled Keep succeeded")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 { // the build and the lock
		t.Fatalf("the store holds %v (%v)", entries, err)
	}
}

func TestDamagedBuildIsRefused(t *testing.T) {
	dir, path := t.TempDir(), installedQEMU(t)
	b := keep(t, open(t, dir), path)
	if err := open(t, dir).Verify(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(b.Dir, b.Files[0].Path)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	damaged := append([]byte{whole[0] ^ 1}, whole[1:]...)
	if err := errors.Join(os.Chmod(name, 0o755), os.WriteFile(name, damaged, 0o555)); err != nil {
		t.Fatal(err)
	}
	err = open(t, dir).Verify(t.Context(), b)
	if f := fault.As(err); err == nil || f.Reason != "vmm_build_damaged" {
		t.Fatalf("with a damaged %s: %v", name, err)
	}
	if err := os.WriteFile(name, whole, 0o555); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(b.Dir, b.Binary)); err != nil {
		t.Fatal(err)
	}
	repaired := keep(t, open(t, dir), path)
	if err := open(t, dir).Verify(t.Context(), repaired); err != nil || repaired.ID != b.ID {
		t.Fatalf("keeping the installed build again does not mend its copy: %v", err)
	}
}

// TestDamagedBuildLeavesOthersAlone: VMs under a whole build do not need the description
// of another one, which is written again when the same emulator is kept.
func TestDamagedBuildLeavesOthersAlone(t *testing.T) {
	s, path := open(t, t.TempDir()), installedQEMU(t)
	whole, damaged := keep(t, s, otherBuild(t, path)), keep(t, s, path)
	description := filepath.Join(damaged.Dir, "build.json")
	if err := errors.Join(os.Chmod(description, 0o644), os.WriteFile(description, []byte("{"), 0o444)); err != nil {
		t.Fatal(err)
	}
	builds, err := s.Builds()
	if err != nil || len(builds) != 1 || builds[0].ID != whole.ID {
		t.Errorf("beside a damaged build: got %v, %v; want the whole one", builds, err)
	}
	if again := keep(t, s, path); again.ID != damaged.ID {
		t.Errorf("kept again it is %s, want %s", again.ID, damaged.ID)
	}
	if builds, err = s.Builds(); err != nil || len(builds) != 2 {
		t.Errorf("after the repair: got %v, %v; want both builds", builds, err)
	}
}

func TestRemove(t *testing.T) {
	s := open(t, t.TempDir())
	b := keep(t, s, installedQEMU(t))
	for range 2 {
		if err := s.Remove(t.Context(), b.ID); err != nil {
			t.Fatal(err)
		}
	}
	if builds, err := s.Builds(); err != nil || len(builds) != 0 {
		t.Fatalf("after its removal the store has %v (%v)", builds, err)
	}
	if err := s.Remove(t.Context(), "../elsewhere"); err == nil {
		t.Fatal("a path was taken for the id of a build")
	}
}

func TestKeepWithoutEmulator(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "qemu")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := open(t, filepath.Join(dir, "store")).Keep(t.Context(), script, "1.2.3")
	if fault.As(err).Reason != "vmm_unusable" {
		t.Fatalf("a script instead of QEMU: %v", err)
	}
	_, err = open(t, filepath.Join(dir, "store")).Keep(t.Context(), filepath.Join(dir, "absent"), "1.2.3")
	if !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("no QEMU at all: %v", err)
	}
}
