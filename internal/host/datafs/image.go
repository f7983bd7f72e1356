package datafs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/durable"
	"github.com/wrenn-dev/wrenn/internal/linux/statfs"
)

// Limits on the size of a file system, in bytes.
const (
	MinSize        = 512 << 20 // XFS wants some 300 MB
	minDefaultSize = 4 << 30
	maxDefaultSize = 1 << 40
)

// label marks a file system as ours. XFS has room for 12 bytes.
const label = "wrenn-data"

// mkfsOptions make a file system with shared blocks. Sectors of 4 KiB let the
// loop device bypass the page cache on disks of either kind; the small log is
// written at once, at any size, and is ample for a few large files.
var mkfsOptions = []string{"-q", "-m", "crc=1,reflink=1", "-L", label, "-b", "size=4096", "-s", "size=4096", "-l", "size=64m"}

// DefaultSize is 80% of the free space on the file system of dir, in bytes, but
// at least 4 GiB and at most 1 TiB. With less than 4 GiB free it fails with
// NoCapacity, reason disk_full.
func DefaultSize(dir string) (int64, error) {
	fs, err := statfs.Path(dir)
	if err != nil {
		return 0, err
	}
	free := fs.Available
	if free < minDefaultSize {
		return 0, fault.New(fault.NoCapacity, "disk_full",
			"a file system for the data needs %d MB free in %s, which has %d MB; say a smaller --data-fs-size if that will do",
			minDefaultSize>>20, dir, free>>20)
	}
	return int64(min(max(free/10*8, minDefaultSize), maxDefaultSize)), nil
}

// make makes the image, complete or not at all. The file that a crash left of an
// earlier try is overwritten.
func (p Place) make(ctx context.Context, size int64) (err error) {
	if size == 0 {
		if size, err = DefaultSize(filepath.Dir(p.Image)); err != nil {
			return err
		}
	}
	if size < MinSize {
		return fault.New(fault.Invalid, "invalid_data_fs", "a file system for the data has at least %d MB, not %d", MinSize>>20, size>>20)
	}
	mkfs, err := findMkfs()
	if err != nil {
		return err
	}
	half := p.Image + ".new"
	defer func() {
		if err != nil {
			err = errors.Join(err, removeIfThere(half))
		}
	}()
	if err := removeIfThere(half); err != nil {
		return err
	}
	if err := format(ctx, mkfs, half, size&^4095); err != nil {
		return err
	}
	if err := os.Rename(half, p.Image); err != nil {
		return err
	}
	return durable.Sync(filepath.Dir(p.Image))
}

// format makes the file at path, of size bytes, and the file system in it.
func format(ctx context.Context, mkfs, path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return fault.Wrap(err, fault.Invalid, "invalid_data_fs", "a file of %d MB cannot be made in %s", size>>20, filepath.Dir(path))
	}
	out, err := exec.CommandContext(ctx, mkfs, append(mkfsOptions, path)...).CombinedOutput()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fault.Wrap(fmt.Errorf("%w: %s", err, out), fault.Unsupported, "data_fs_not_made", "mkfs.xfs could not make a file system in %s", path)
	}
	return durable.Sync(path)
}

// findMkfs also looks where an ordinary user's PATH does not.
func findMkfs() (string, error) {
	for _, name := range []string{"mkfs.xfs", "/usr/sbin/mkfs.xfs", "/sbin/mkfs.xfs"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fault.New(fault.Unsupported, "tool_missing", "mkfs.xfs is not installed on this host; run 'make setup' or install xfsprogs")
}

// checkLabel reads the first superblock: its magic number is at byte 0, its
// label at byte 108 (xfs_dsb of the kernel's fs/xfs/libxfs/xfs_format.h).
func checkLabel(f *os.File) error {
	head := make([]byte, 120)
	_, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if string(head[:4]) != "XFSB" || string(bytes.TrimRight(head[108:120], "\x00")) != label {
		return fault.New(fault.WrongState, "data_fs_foreign",
			"%s is not a file system that wrenn made: move it away, or use another data directory", f.Name())
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
