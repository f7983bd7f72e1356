package vmmtest

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// diskCopy copies the disk of a running guest, gives copies up, runs out of
// space, and hands a copy that is under way to the next agent.
func (f Fixture) diskCopy(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), f.Limit)
	defer cancel()
	g := f.New(t)
	vm, err := f.Driver.Start(ctx, g.Config)
	check(t, "start", err)
	t.Cleanup(func() { check(t, "kill", f.Driver.KillRecord(context.Background(), vm.Record())) })
	check(t, "ready", g.Ready(ctx))
	dir := filepath.Dir(g.Config.Disk)
	target := func(name string) *os.File {
		t.Helper()
		st, err := os.Stat(g.Config.Disk)
		check(t, "stat", err)
		dst, err := os.Create(filepath.Join(dir, name))
		check(t, "create", err)
		t.Cleanup(func() { _ = dst.Close() })
		check(t, "truncate", dst.Truncate(st.Size()))
		return dst
	}
	check(t, "abandon what was not begun", copier(t, vm).AbandonDiskCopy(ctx))
	check(t, "begin", copier(t, vm).BeginDiskCopy(ctx, target("given-up")))
	for range 2 {
		check(t, "abandon", copier(t, vm).AbandonDiskCopy(ctx))
	}

	if os.Geteuid() == 0 { // mounting a small file system takes root
		if copier(t, vm).BeginDiskCopy(ctx, onFullDisk(t)) == nil {
			t.Fatal("a copy to a full disk was begun")
		}
		count(ctx, t, g)
	}

	dst := target("copy")
	check(t, "begin after a copy that was given up", copier(t, vm).BeginDiskCopy(ctx, dst))
	count(ctx, t, g)
	check(t, "freeze", g.Freeze(ctx))
	check(t, "pause", vm.Pause(ctx))
	check(t, "end", copier(t, vm).EndDiskCopy(ctx))
	have, err := os.ReadFile(g.Config.Disk)
	check(t, "read the disk", err)
	copied, err := os.ReadFile(dst.Name())
	check(t, "read the copy", err)
	if !bytes.Equal(have, copied) {
		t.Fatal("the copy is not what the disk holds")
	}
	check(t, "resume", vm.Resume(ctx))
	check(t, "thaw", g.Thaw(ctx))

	for range 2 { // the second takes the place of the first
		check(t, "begin before the agent ends", copier(t, vm).BeginDiskCopy(ctx, target("left")))
	}
	vm.Detach()
	adopted, err := f.Driver.Adopt(ctx, vm.Record())
	check(t, "adopt", err)
	check(t, "begin under the next agent", copier(t, adopted).BeginDiskCopy(ctx, target("next")))
	check(t, "abandon under the next agent", copier(t, adopted).AbandonDiskCopy(ctx))
	count(ctx, t, g)
}

// copier returns the copier of the VM's disk.
func copier(t *testing.T, vm vmm.VM) vmm.DiskCopier {
	t.Helper()
	c, ok := vm.(vmm.DiskCopier)
	if !ok {
		t.Fatal("the disk is a file of the host, and the VM cannot copy it")
	}
	return c
}

// onFullDisk returns an empty file, as long as a disk, on a file system that
// has room for nothing.
func onFullDisk(t *testing.T) *os.File {
	t.Helper()
	dir := t.TempDir()
	check(t, "mount a small file system", unix.Mount("full", dir, "tmpfs", 0, "size=64k"))
	dst, err := os.Create(filepath.Join(dir, "copy"))
	check(t, "create", err)
	t.Cleanup(func() {
		_ = dst.Close()
		check(t, "unmount", unix.Unmount(dir, unix.MNT_DETACH))
	})
	check(t, "truncate", dst.Truncate(512<<20))
	return dst
}
