package vmmtest

import (
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// saved is a saved VM with a copy of its disk.
type saved struct {
	vmm.Image
	disk string
	n    int // of the counter, at the least
}

// saveAndRestore saves a VM whole, restores it twice, saves the second as a
// delta, restores that, makes a whole snapshot of it, and restores that one.
func (f Fixture) saveAndRestore(t *testing.T) {
	ctx, g, vm := f.start(t)
	whole := saved{n: count(ctx, t, g)}
	whole.Base = f.saveWhole(ctx, t, g, vm)
	whole.disk = f.end(ctx, t, g, vm)
	original := f.contents(t, whole.Base)

	f.kill(t, f.restore(ctx, t, g, whole)) // a snapshot can be restored more than once
	vm = f.restore(ctx, t, g, whole)
	delta := saved{Image: whole.Image, n: count(ctx, t, g)}
	check(t, "freeze", g.Freeze(ctx))
	check(t, "pause", vm.Pause(ctx))
	delta.Delta = t.TempDir()
	_, err := vm.SaveDelta(ctx, delta.Delta)
	check(t, "save a delta", err)
	delta.disk = f.end(ctx, t, g, vm)
	check(t, "check of the delta", f.Driver.CheckDelta(g.Config, delta.Delta))
	f.kill(t, f.restore(ctx, t, g, delta))

	flat := saved{Image: vmm.Image{Base: t.TempDir()}, disk: delta.disk, n: delta.n}
	check(t, "flatten", f.Driver.Flatten(ctx, delta.Image, flat.Base))
	f.share(t, g, flat.Base)
	f.kill(t, f.restore(ctx, t, g, flat))

	if now := f.contents(t, whole.Base); !maps.Equal(now, original) {
		t.Errorf("running from a snapshot changed its files: %x, before %x", now, original)
	}
	damaged := filepath.Join(delta.Delta, f.Driver.Files(vmm.Delta)[0].Name)
	check(t, "damage the delta", os.Truncate(damaged, 1))
	if err := f.Driver.CheckDelta(g.Config, delta.Delta); !errors.Is(err, vmm.ErrDamaged) {
		t.Errorf("the check of a damaged delta returned %v, want ErrDamaged", err)
	}
}

// saveWhole saves the VM, most of it while it runs, and leaves it paused.
func (f Fixture) saveWhole(ctx context.Context, t *testing.T, g Guest, vm vmm.VM) (dir string) {
	t.Helper()
	dir = t.TempDir()
	save, err := vm.BeginSave(ctx, dir)
	check(t, "begin to save", err)
	check(t, "copy ahead", save.Ahead(ctx))
	check(t, "freeze", g.Freeze(ctx))
	check(t, "pause", vm.Pause(ctx))
	_, err = save.Finish(ctx)
	check(t, "finish the save", err)
	check(t, "close the save", save.Close())
	f.share(t, g, dir)
	return dir
}

// share lets the VM processes of g open the shared files of the snapshot dir.
func (f Fixture) share(t *testing.T, g Guest, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	for _, file := range f.Driver.Files(vmm.Whole) {
		if file.Shared {
			check(t, "chown", os.Chown(filepath.Join(dir, file.Name), g.Config.UID, g.Config.GID))
		}
	}
}

// end ends the paused VM and returns a copy of its disk, if that is a file.
func (f Fixture) end(ctx context.Context, t *testing.T, g Guest, vm vmm.VM) (copied string) {
	t.Helper()
	f.kill(t, vm)
	if f.Driver.Info().Shape.DiskInSnapshot {
		return ""
	}
	copied = filepath.Join(t.TempDir(), "disk")
	_, err := disk.Clone(ctx, copied, g.Config.Disk)
	check(t, "copy the disk", err)
	return copied
}

// restore restores from and checks that its counter continues.
func (f Fixture) restore(ctx context.Context, t *testing.T, g Guest, from saved) vmm.VM {
	t.Helper()
	if from.disk != "" {
		_, err := disk.Clone(ctx, g.Config.Disk, from.disk)
		check(t, "put the disk back", err)
	}
	vm, err := f.Driver.Restore(ctx, g.Config, from.Image)
	check(t, "restore", err)
	t.Cleanup(func() { f.kill(t, vm) })
	if !f.Driver.Info().Shape.RestoresRunning {
		check(t, "resume", vm.Resume(ctx))
	}
	check(t, "ready", g.Ready(ctx))
	check(t, "thaw", g.Thaw(ctx))
	if after := count(ctx, t, g); after < from.n {
		t.Fatalf("the counter went from %d back to %d", from.n, after)
	}
	return vm
}

// contents returns a checksum of each file of the whole snapshot dir.
func (f Fixture) contents(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	out := make(map[string][32]byte)
	for _, file := range f.Driver.Files(vmm.Whole) {
		data, err := os.ReadFile(filepath.Join(dir, file.Name))
		check(t, "read", err)
		out[file.Name] = sha256.Sum256(data)
	}
	return out
}
