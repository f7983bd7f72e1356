package disk

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// Share makes dst a copy of the file src that shares its blocks, replacing
// an existing file. Where the file system cannot, it does nothing and returns
// false.
func Share(_ context.Context, dst, src string) (shared bool, err error) {
	in, err := os.Open(src)
	if err != nil {
		return false, err
	}
	defer in.Close()
	err = replace(dst, func(out *os.File) error {
		return unix.IoctlFileClone(int(out.Fd()), int(in.Fd()))
	})
	if err != nil && cannotShare(err) {
		return false, nil
	}
	return err == nil, err
}
