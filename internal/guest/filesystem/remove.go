package filesystem

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// RemovePath deletes path: a file, an empty directory, or with recursive everything
// below it. It never follows a link. A missing path is NotFound, a directory with
// entries WrongState directory_not_empty. The end of ctx ends it with a part removed.
func (f *Files) RemovePath(ctx context.Context, path string, recursive bool) error {
	parent, name := filepath.Split(filepath.Clean(path))
	if name == "" {
		return fault.New(fault.Invalid, "invalid_path", "the root directory cannot be removed")
	}
	dir, err := unix.Open(parent, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) {
		return errMissing(path, err)
	}
	if err != nil {
		return classify(path, err)
	}
	defer unix.Close(dir)
	err = removeOne(dir, name)
	if recursive && notEmpty(err) {
		err = removeTree(ctx, dir, name)
	}
	if notEmpty(err) {
		return fault.Wrap(err, fault.WrongState, "directory_not_empty",
			"directory '%s' has entries; remove them first, or remove it with recursive", path)
	}
	return classify(path, err)
}

func notEmpty(err error) bool {
	return errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST)
}

// removeOne deletes a file or an empty directory.
func removeOne(dir int, name string) error {
	err := unix.Unlinkat(dir, name, 0)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) { // EPERM by POSIX
		if rmdirErr := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); !errors.Is(rmdirErr, unix.ENOTDIR) {
			return rmdirErr
		}
	}
	return err
}

// maxRemoveDepth bounds the directories that are open at once.
const maxRemoveDepth = 512

// removeTree deletes the directory name and everything in it.
func removeTree(ctx context.Context, dir int, name string) error {
	return removeBelow(ctx, dir, name, 0)
}

func removeBelow(ctx context.Context, dir int, name string, depth int) error {
	if depth > maxRemoveDepth {
		return fault.New(fault.TooLarge, "too_many_directories", "directories are nested deeper than %d levels", maxRemoveDepth)
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return missingIsRemoved(err)
	}
	f := os.NewFile(uintptr(fd), "/proc/self/fd/"+strconv.Itoa(fd))
	defer f.Close()
	if err := removeEntries(ctx, f, depth); err != nil {
		return err
	}
	return missingIsRemoved(unix.Unlinkat(dir, name, unix.AT_REMOVEDIR))
}

// removeEntries deletes everything in the directory f.
func removeEntries(ctx context.Context, f *os.File, depth int) error {
	for {
		names, err := f.Readdirnames(readBatch)
		for _, name := range names {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			fd := int(f.Fd())
			err := removeOne(fd, name)
			if notEmpty(err) {
				err = removeBelow(ctx, fd, name, depth+1)
			}
			if err := missingIsRemoved(err); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		// Entries that were deleted may hide others from a directory that is read on.
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
}

// missingIsRemoved returns nil for the error of a name that has gone.
func missingIsRemoved(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
