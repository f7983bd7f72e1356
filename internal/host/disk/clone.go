package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Method is how a clone was made.
type Method string

// The methods.
const (
	// Reflink: the clone shares its blocks with the source until one of them
	// changes (FICLONE of ioctl_ficlonerange(2)). It costs nothing.
	Reflink Method = "reflink"
	// Copy: the data was copied; holes stayed holes.
	Copy Method = "copy"
)

// copyStep is how much is copied, in bytes, before the context is asked again.
const copyStep = 64 << 20

// Clone makes dst a copy of the file src and replaces an existing dst: by reflink
// where the file system can, else by copying the data and keeping the holes.
// src must not change meanwhile. The copy has mode 0600 and is not yet
// durable; Sync makes it so.
func Clone(ctx context.Context, dst, src string) (Method, error) {
	in, err := os.Open(src)
	if err != nil {
		return "", err
	}
	defer in.Close()
	method := Reflink
	err = replace(dst, func(out *os.File) error {
		err := unix.IoctlFileClone(int(out.Fd()), int(in.Fd()))
		if err == nil || !cannotShare(err) {
			return err
		}
		method = Copy
		return copySparse(ctx, out, in)
	})
	if err != nil {
		return "", fmt.Errorf("clone %s: %w", filepath.Base(src), err)
	}
	return method, nil
}

// cannotShare reports whether err says that these two files cannot share
// blocks, so that copying is the way (ioctl_ficlonerange(2), copy_file_range(2)).
func cannotShare(err error) bool {
	for _, no := range []error{unix.EOPNOTSUPP, unix.ENOTTY, unix.EXDEV, unix.EINVAL, unix.ENOSYS} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// copySparse copies in to the empty file out, extent by extent.
func copySparse(ctx context.Context, out, in *os.File) error {
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := out.Truncate(info.Size()); err != nil {
		return err
	}
	for offset := int64(0); offset < info.Size(); {
		start, err := unix.Seek(int(in.Fd()), offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // only a hole is left (lseek(2))
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(int(in.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if err := copyExtent(ctx, out, in, start, end); err != nil {
			return err
		}
		offset = end
	}
	return nil
}

// copyExtent copies the bytes from start to end, in the kernel if it can.
func copyExtent(ctx context.Context, out, in *os.File, start, end int64) error {
	for start < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		from, to := start, start
		n, err := unix.CopyFileRange(int(in.Fd()), &from, int(out.Fd()), &to, int(min(end-start, copyStep)), 0)
		if err != nil && cannotShare(err) {
			return copyThrough(ctx, out, in, start, end)
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF // the source shrank
		}
		start += int64(n)
	}
	return nil
}

// copyThrough copies through this process, for pairs of file systems between
// which the kernel does not.
func copyThrough(ctx context.Context, out, in *os.File, start, end int64) error {
	buf := make([]byte, 1<<20)
	for start < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := in.ReadAt(buf[:min(end-start, int64(len(buf)))], start)
		if n == 0 {
			return errors.Join(err, io.ErrUnexpectedEOF)
		}
		if _, err := out.WriteAt(buf[:n], start); err != nil {
			return err
		}
		start += int64(n)
	}
	return nil
}
