package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// MinSize is the smallest layer, in bytes: ext4 with its journal needs that
// much to be of use.
const MinSize = 16 << 20

// mkfsOptions make an empty ext4 in about ten milliseconds, at any size: the
// inode tables are left as holes, which read as the zeros they should be. Block
// and inode sizes are said because mke2fs(8) has other ones for small disks;
// nothing is reserved for root, who is the sandbox's user. There is no journal:
// a layer is only ever used with the memory of the guest that wrote it, and
// never mounted after a crash.
var mkfsOptions = []string{
	"-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-i", "16384", "-m", "0", "-O", "^has_journal",
	"-E", "lazy_itable_init=1,nodiscard,root_owner=0:0",
}

// Format names the format of a layer that Create makes. Keys of snapshots contain it.
func Format() string { return strings.Join(mkfsOptions, " ") }

// Create makes an empty layer of sizeBytes at path and replaces an existing file.
// It takes next to no space on the host until the guest writes.
func Create(ctx context.Context, path string, sizeBytes int64) error {
	if sizeBytes < MinSize {
		return fault.New(fault.Invalid, "invalid_disk", "a disk needs at least %d MB", MinSize>>20)
	}
	mke2fs, err := findMke2fs()
	if err != nil {
		return err
	}
	return replace(path, func(f *os.File) error {
		if err := f.Truncate(sizeBytes); err != nil {
			return err
		}
		out, err := exec.CommandContext(ctx, mke2fs, append(mkfsOptions, f.Name())...).CombinedOutput()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("mke2fs: %w: %s", err, out)
		}
		return nil
	})
}

// findMke2fs also looks where an ordinary user's PATH does not.
func findMke2fs() (string, error) {
	for _, name := range []string{"mke2fs", "/usr/sbin/mke2fs", "/sbin/mke2fs"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fault.New(fault.Unsupported, "tool_missing", "mke2fs is not installed on this host; run 'make setup' or install e2fsprogs")
}

// replace has fill write a new file and moves it to path. On error nothing
// is left and path is as it was.
func replace(path string, fill func(*os.File) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return noSpace(dir, err)
	}
	defer f.Close()
	err = fill(f)
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = noSpace(dir, err)
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// noSpace turns err into the fault for a full disk if it reports one: by
// its number, or, for a tool that only said it failed, by the space that is left.
func noSpace(dir string, err error) error {
	full := errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
	if exit := (*exec.ExitError)(nil); !full && errors.As(err, &exit) {
		_, free, statErr := Space(dir)
		full = statErr == nil && free < lowWater
	}
	if !full {
		return err
	}
	return fault.Wrap(err, fault.NoCapacity, "disk_full", "the host's disk is full")
}

// lowWater is the free space, in bytes, under which a failed tool is taken
// to have failed for want of space.
const lowWater = 1 << 20
