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

// checkpoint saves the paused sandbox to the empty directory dir.
func (v *vm) checkpoint(ctx context.Context, dir string) (vmm.SaveStats, error) {
	if err := v.writeFiles(ctx, dir); err != nil {
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

// saveOptions are those of the sentry (control.SaveOpts in pkg/sentry/control/state.go)
// that differ from its defaults.
type saveOptions struct {
	Metadata      map[string]string `json:"metadata"`
	HavePagesFile bool              `json:"have_pages_file"`
	// Resume keeps the sentry. Without it, a disk that is full ends the sentry.
	Resume bool
}

// writeFiles has the sentry write its state to new files in dir. They are opened here,
// because the sentry cannot open any, and passed in the order of savedFiles.
func (v *vm) writeFiles(ctx context.Context, dir string) (err error) {
	var files []*os.File
	defer func() {
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
	}()
	for _, name := range savedFiles {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	options := saveOptions{Metadata: map[string]string{"compression": "none"}, HavePagesFile: true, Resume: true}
	return call(ctx, v.dir, methodCheckpoint, options, nil, files...)
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
