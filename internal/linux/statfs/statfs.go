// Package statfs reads the type, size and free space of a file system, as
// statfs(2) returns them, in bytes.
//
// It owns nothing. The kernel counts in fragments, whose size is Frsize; Bsize is
// only the size for good transfers, and some file systems have two values.
package statfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// Info describes a file system at the time of the call.
type Info struct {
	// Type is the magic number of the file system's kind, for example
	// unix.XFS_SUPER_MAGIC.
	Type int64
	// Size is the whole file system, in bytes.
	Size uint64
	// Free is the unused part. Some of it may be reserved for root.
	Free uint64
	// Available is the part that an ordinary user can still write to.
	Available uint64
}

// Path describes the file system that holds path.
func Path(path string) (Info, error) {
	var st unix.Statfs_t
	for {
		switch err := unix.Statfs(path, &st); err {
		case nil:
			return info(&st), nil
		case unix.EINTR:
		default:
			return Info{}, &os.PathError{Op: "statfs", Path: path, Err: err}
		}
	}
}

// File describes the file system that holds the open file f.
func File(f *os.File) (Info, error) {
	var st unix.Statfs_t
	for {
		switch err := unix.Fstatfs(int(f.Fd()), &st); err {
		case nil:
			return info(&st), nil
		case unix.EINTR:
		default:
			return Info{}, &os.PathError{Op: "fstatfs", Path: f.Name(), Err: err}
		}
	}
}

func info(st *unix.Statfs_t) Info {
	unit := uint64(st.Frsize)
	return Info{Type: st.Type, Size: st.Blocks * unit, Free: st.Bfree * unit, Available: st.Bavail * unit}
}
