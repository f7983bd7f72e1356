package filesystem

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Owner is the owner of new files and directories.
type Owner struct {
	UID, GID uint32
}

// maxEntries bounds one listing.
const maxEntries = 50_000

// makeParents makes dir and its missing parents, with mode 0755 and owner. It
// leaves existing directories as they are.
func makeParents(dir string, owner Owner) error {
	fi, err := os.Stat(dir)
	switch {
	case err == nil && fi.IsDir():
		return nil
	case err == nil:
		return errNotDirectory(dir, nil)
	case errors.Is(err, syscall.ENOTDIR):
		return errNotDirectory(dir, err)
	case !errors.Is(err, os.ErrNotExist):
		return classify(dir, err)
	}
	if err := makeParents(filepath.Dir(dir), owner); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		if fi, statErr := os.Stat(dir); statErr == nil && fi.IsDir() {
			return nil
		}
		return classify(dir, err)
	}
	return classify(dir, os.Lchown(dir, int(owner.UID), int(owner.GID)))
}

// MakeDir makes path and its missing parents. An existing directory is Exists; any
// other existing file is Invalid.
func (f *Files) MakeDir(path string, owner Owner) (Entry, error) {
	if fi, err := os.Stat(path); err == nil {
		if fi.IsDir() {
			return Entry{}, fault.New(fault.Exists, "directory_exists", "directory '%s' exists already", path)
		}
		return Entry{}, errNotDirectory(path, nil)
	}
	if err := makeParents(path, owner); err != nil {
		return Entry{}, err
	}
	return f.Stat(path)
}

// MakeDirectory makes the directory path with the given permission bits. With parents
// it makes missing parents too, with mode 0755, and leaves a directory that exists as
// it is. Without, an existing path is Exists and a missing parent NotFound.
func (f *Files) MakeDirectory(path string, owner Owner, mode os.FileMode, parents bool) error {
	if parents {
		if err := makeParents(filepath.Dir(path), owner); err != nil {
			return err
		}
	}
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, os.ErrExist) && parents {
		fi, statErr := os.Stat(path)
		if statErr == nil && !fi.IsDir() {
			return errNotDirectory(path, err)
		}
		return classify(path, statErr)
	}
	if err != nil {
		return classify(path, err)
	}
	dir, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return classify(path, err)
	}
	defer dir.Close()
	if err := dir.Chown(int(owner.UID), int(owner.GID)); err != nil {
		return classify(path, err)
	}
	return classify(path, dir.Chmod(mode.Perm()))
}

// Remove deletes path and everything below it. A missing path is success; the root
// directory is Invalid.
func (f *Files) Remove(path string) error {
	if filepath.Clean(path) == "/" {
		return fault.New(fault.Invalid, "invalid_path", "the root directory cannot be removed")
	}
	err := os.RemoveAll(path)
	if errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	return classify(path, err)
}

// List describes the entries below path, depth levels deep (zero means one), in
// lexical order, a directory before its children. Path may be a link to a
// directory; links below it are not followed.
func (f *Files) List(path string, depth uint32) ([]Entry, error) {
	d, err := f.accounts.Read()
	if err != nil {
		return nil, err
	}
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return nil, errMissing(path, err)
	case err != nil:
		return nil, classify(path, err)
	case !fi.IsDir():
		return nil, errNotDirectory(path, nil)
	}
	l := lister{directory: d}
	if err := l.walk(path, max(depth, 1)); err != nil {
		return nil, err
	}
	return l.entries, nil
}

type lister struct {
	directory *Directory
	entries   []Entry
}

func (l *lister) walk(dir string, depth uint32) error {
	children, err := os.ReadDir(dir)
	if err != nil {
		return classify(dir, err)
	}
	for _, c := range children {
		if len(l.entries) >= maxEntries {
			return fault.New(fault.TooLarge, "too_many_entries", "the listing has more than %d entries: ask for less depth", maxEntries)
		}
		path := filepath.Join(dir, c.Name())
		e, err := l.directory.stat(path)
		if fault.Is(err, fault.NotFound) {
			continue // removed since the directory was read
		}
		if err != nil {
			return err
		}
		l.entries = append(l.entries, e)
		if depth > 1 && c.Type()&fs.ModeDir != 0 {
			if err := l.walk(path, depth-1); err != nil && !fault.Is(err, fault.NotFound) {
				return err
			}
		}
	}
	return nil
}
