package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/statfs"
)

// Capabilities lists the features of a directory's file system.
type Capabilities struct {
	// FS is its name, or its number in hex (statfs(2)) if it is a rare one.
	FS string
	// Reflink: clones share blocks and cost nothing.
	Reflink bool
}

var fsNames = map[int64]string{
	unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
	unix.TMPFS_MAGIC: "tmpfs", unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.F2FS_SUPER_MAGIC: "f2fs",
	0x2fc12fc1: "zfs", // ZFS_SUPER_MAGIC of OpenZFS
}

// Probe finds the capabilities of dir's file system by trying them on two
// small files, which are gone when it returns.
func Probe(dir string) (Capabilities, error) {
	fs, err := statfs.Path(dir)
	if err != nil {
		return Capabilities{}, err
	}
	c := Capabilities{FS: fsNames[fs.Type]}
	if c.FS == "" {
		c.FS = fmt.Sprintf("%#x", fs.Type)
	}
	src, err := probeFile(dir)
	if err != nil {
		return Capabilities{}, err
	}
	defer src.Close()
	dst, err := probeFile(dir)
	if err != nil {
		return Capabilities{}, err
	}
	defer dst.Close()
	if _, err := src.Write(make([]byte, 4096)); err != nil {
		return Capabilities{}, noSpace(dir, err)
	}
	err = unix.IoctlFileClone(int(dst.Fd()), int(src.Fd()))
	if err != nil && !cannotShare(err) {
		return Capabilities{}, noSpace(dir, err)
	}
	c.Reflink = err == nil
	return c, nil
}

// probeFile returns an open file in dir that has no name any more.
func probeFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return nil, noSpace(dir, err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Usage returns how many bytes of the host's disk the file at path takes, or,
// for a directory, all that is below it. For a sparse file that is less than
// its size. Links are not followed; a file with several names counts once;
// blocks shared with a clone count in both. Files removed meanwhile do not
// count, but path itself must be there.
func Usage(path string) (int64, error) {
	type inode struct{ dev, ino uint64 }
	seen := make(map[inode]bool)
	total := int64(0)
	err := filepath.WalkDir(path, func(name string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(name, &st)
		}
		switch at := (inode{st.Dev, st.Ino}); {
		case errors.Is(err, fs.ErrNotExist) && name != path:
			return nil
		case err != nil:
			return &os.PathError{Op: "usage", Path: name, Err: err}
		case st.Nlink > 1 && seen[at]:
			return nil
		default:
			seen[at] = true
		}
		total += st.Blocks * 512 // st_blocks is in units of 512 bytes (stat(2))
		return nil
	})
	if err != nil {
		return 0, err
	}
	return total, nil
}

// Space returns the size of the file system that holds dir, and the space that an
// ordinary user could still write to it, in bytes. A file system in a sparse
// file has no more room than that file can still grow by.
func Space(dir string) (total, free uint64, err error) {
	inner, err := statfs.Path(dir)
	if err != nil {
		return 0, 0, err
	}
	free = inner.Available
	if file := backingFile(dir); file != "" {
		if outer, err := statfs.Path(filepath.Dir(file)); err == nil {
			free = min(free, outer.Available)
		}
	}
	return inner.Size, free, nil
}

// backingFile is the file that holds the file system of dir, where that is
// mounted from a loop device; empty where it is not, or cannot be told.
func backingFile(dir string) string {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return ""
	}
	path, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/loop/backing_file", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(path), "\n")
}

// CheckReserve returns a fault of kind NoCapacity, reason disk_reserve, if
// less than reserve bytes are free for dir.
func CheckReserve(dir string, reserve uint64) error {
	_, free, err := Space(dir)
	if err != nil {
		return err
	}
	return CheckFree(free, reserve)
}

// CheckFree is CheckReserve for a file system with free bytes of space.
func CheckFree(free, reserve uint64) error {
	if free < reserve {
		return fault.New(fault.NoCapacity, "disk_reserve",
			"the host's disk is nearly full: %d MB are free and %d MB are kept in reserve", free>>20, reserve>>20)
	}
	return nil
}
