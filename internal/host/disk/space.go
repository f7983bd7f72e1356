package disk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Capabilities says what the file system of a directory can do.
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

// Probe finds out what the file system of dir can do by trying it on two
// small files, which are gone when it returns.
func Probe(dir string) (Capabilities, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Capabilities{}, err
	}
	c := Capabilities{FS: fsNames[st.Type]}
	if c.FS == "" {
		c.FS = fmt.Sprintf("%#x", st.Type)
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

// Usage returns how many bytes of the host's disk the file at path takes,
// which for a sparse file is less than its size. Blocks shared with a clone
// count in both.
func Usage(path string) (int64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return st.Blocks * 512, nil // st_blocks is in units of 512 bytes (stat(2))
}

// Space returns the size of the file system that holds dir, and what an
// ordinary user could still write to it, in bytes.
func Space(dir string) (total, free uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return st.Blocks * uint64(st.Frsize), st.Bavail * uint64(st.Frsize), nil
}

// CheckReserve returns a fault of kind NoCapacity, reason disk_full, if less
// than reserve bytes are free on the file system that holds dir.
func CheckReserve(dir string, reserve uint64) error {
	_, free, err := Space(dir)
	if err != nil {
		return err
	}
	if free < reserve {
		return fault.New(fault.NoCapacity, "disk_full",
			"the host's disk is nearly full: %d MB are free and %d MB are kept in reserve", free>>20, reserve>>20)
	}
	return nil
}
