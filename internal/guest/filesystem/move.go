package filesystem

import (
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
	if _, err := os.Lstat(source); err != nil {
		if errors.Is(err, syscall.ENOTDIR) {
			err = errMissing(source, err)
		}
		return Entry{}, classify(source, err)
	}
	if err := makeParents(filepath.Dir(destination), owner); err != nil {
		return Entry{}, err
	}
	err := os.Rename(source, destination)
	if errors.Is(err, syscall.EXDEV) {
		err = moveAcross(source, destination)
	}
	if err != nil {
		return Entry{}, classify(destination, err)
	}
	return f.Stat(destination)
}

// moveAcross copies source beside destination first, so that destination
// appears whole.
func moveAcross(source, destination string) error {
	tmp := temporaryName(destination)
	err := copyTree(source, tmp)
	if err == nil {
		err = os.Rename(tmp, destination)
	}
	if err != nil {
		_ = os.RemoveAll(tmp)
		return err
	}
	return os.RemoveAll(source)
}

func copyTree(source, destination string) error {
	return filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
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
