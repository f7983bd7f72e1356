package filesystem

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Move renames source to destination, whose missing parents are made for
// owner. A file at destination is replaced. Between file systems the tree is
// copied, then the source removed; a failed copy leaves the source whole.
func (f *Files) Move(source, destination string, owner Owner) (Entry, error) {
	if err := f.Rename(context.Background(), source, destination, owner, true); err != nil {
		return Entry{}, err
	}
	return f.Stat(destination)
}

// Rename is Move, without a description of the result. Without overwrite, an existing
// destination is Exists path_exists. The end of ctx ends a copy between file systems.
func (f *Files) Rename(ctx context.Context, source, destination string, owner Owner, overwrite bool) error {
	if _, err := os.Lstat(source); err != nil {
		if errors.Is(err, syscall.ENOTDIR) {
			err = errMissing(source, err)
		}
		return classify(source, err)
	}
	if err := makeParents(filepath.Dir(destination), owner); err != nil {
		return err
	}
	err := rename(source, destination, overwrite)
	if errors.Is(err, syscall.EXDEV) {
		err = moveAcross(ctx, source, destination, overwrite)
	}
	return classify(destination, err)
}

// rename is rename(2), or fails with EEXIST if there is a destination that may not be
// replaced. On a file system that cannot exclude a race for the destination it checks
// before.
func rename(source, destination string, overwrite bool) error {
	if overwrite {
		return os.Rename(source, destination)
	}
	err := unix.Renameat2(unix.AT_FDCWD, source, unix.AT_FDCWD, destination, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	if _, err := os.Lstat(destination); err == nil {
		return syscall.EEXIST
	}
	return os.Rename(source, destination)
}

// moveAcross copies source beside destination first, so that destination
// appears whole.
func moveAcross(ctx context.Context, source, destination string, overwrite bool) error {
	if _, err := os.Lstat(destination); err == nil && !overwrite {
		return syscall.EEXIST // before the copy
	}
	tmp := temporaryName(destination)
	err := copyTree(ctx, source, tmp)
	if err == nil {
		err = rename(tmp, destination, overwrite)
	}
	if err != nil {
		_ = os.RemoveAll(tmp)
		return err
	}
	return os.RemoveAll(source)
}

func copyTree(ctx context.Context, source, destination string) error {
	return filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, path)
		if err != nil {
			return err
		}
		return copyEntry(path, filepath.Join(destination, rel))
	})
}

// copyEntry copies one file, link, directory or node with its owner, mode and
// times. The kernel's device numbers of a node are kept.
func copyEntry(source, destination string) error {
	fi, err := os.Lstat(source)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return syscall.EINVAL
	}
	switch {
	case fi.IsDir():
		err = os.Mkdir(destination, 0o700)
	case fi.Mode().IsRegular():
		err = copyContent(source, destination)
	case fi.Mode()&os.ModeSymlink != 0:
		var target string
		if target, err = os.Readlink(source); err == nil {
			err = os.Symlink(target, destination)
		}
	default:
		err = unix.Mknod(destination, st.Mode, int(st.Rdev))
	}
	if err != nil {
		return err
	}
	if err := os.Lchown(destination, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if fi.Mode()&os.ModeSymlink != 0 {
		return nil
	}
	if err := os.Chmod(destination, fi.Mode()); err != nil {
		return err
	}
	return os.Chtimes(destination, fi.ModTime(), fi.ModTime())
}

func copyContent(source, destination string) error {
	in, err := openRegular(source)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(destination, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}
