package gvisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// SaveDelta implements vmm.VM. The delta is complete.
func (v *vm) SaveDelta(ctx context.Context, dir string) (vmm.SaveStats, error) {
	return v.checkpoint(ctx, dir)
}

// BeginSave implements vmm.VM.
func (v *vm) BeginSave(_ context.Context, dir string) (vmm.Save, error) {
	return save{v, dir}, nil
}

// save is a snapshot in the making. All of its work is done while the sandbox is
// paused.
type save struct {
	vm  *vm
	dir string
}

func (save) Ahead(context.Context) error { return nil }

func (s save) Finish(ctx context.Context) (vmm.SaveStats, error) {
	return s.vm.checkpoint(ctx, s.dir)
}

func (save) Close() error { return nil }

// checkpoint saves the paused sandbox to the empty directory dir. The original is
// always kept: without --leave-running, a disk that is full ends the sentry.
func (v *vm) checkpoint(ctx context.Context, dir string) (vmm.SaveStats, error) {
	build, err := v.builds.Find(v.about.Build)
	if err != nil {
		return vmm.SaveStats{}, err
	}
	if err := v.builds.Verify(build); err != nil {
		return vmm.SaveStats{}, err
	}
	err = runCommand(ctx, build, v.dir, "checkpoint", "--leave-running", "--compression=none", "--image-path="+dir)
	if err != nil {
		return vmm.SaveStats{}, fmt.Errorf("save the sandbox: %w", err)
	}
	sealed, err := newSeal(dir, v.about.Seal)
	if err != nil {
		return vmm.SaveStats{}, err
	}
	if err := sealed.write(dir); err != nil {
		return vmm.SaveStats{}, err
	}
	pages := sealed.Files[pagesFile].Bytes
	return vmm.SaveStats{Dirty: pages, Kept: pages}, nil
}

// CheckDelta implements vmm.Driver.
func (d *Driver) CheckDelta(cfg vmm.Config, dir string) error {
	build, err := d.build(cfg.Build)
	if err != nil {
		return err
	}
	return check(dir, sealOf(cfg, build))
}

// Flatten implements vmm.Driver. A delta is complete, so that its files are the
// whole snapshot.
func (*Driver) Flatten(ctx context.Context, from vmm.Image, dir string) error {
	for _, name := range append([]string{sealFile}, savedFiles...) {
		old, new := filepath.Join(source(from), name), filepath.Join(dir, name)
		err := os.Link(old, new)
		if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EMLINK) {
			_, err = disk.Clone(ctx, new, old)
		}
		if err != nil {
			return fmt.Errorf("copy the snapshot: %w", err)
		}
	}
	return nil
}
