package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// directory is a directory whose mode and time are set at the end: the mode may forbid
// writing. A tar.Header would keep up to 1 MiB of records.
type directory struct {
	name string
	mode fs.FileMode
	time time.Time
}

// dir makes the directory name, whose parents exist.
func (u *unpacker) dir(name string, h *tar.Header) error {
	owner, err := u.owner(h)
	if err != nil {
		return err
	}
	made, err := u.makeDir(name, owner)
	if err != nil {
		return err
	}
	// The name may be a piece of a large string, which the copy releases.
	name = strings.Clone(name)
	u.parent = name
	if !made && u.options.KeepDirs {
		return nil
	}
	if u.names += len(name); u.names > u.limits.names {
		return fmt.Errorf("%w: the names of its directories have more than %d bytes", ErrTooLarge, u.limits.names)
	}
	u.dirs = append(u.dirs, directory{name, u.mode(h), h.ModTime})
	return nil
}

// makeParents makes the missing directories above name. Each counts as an entry,
// because an entry of few bytes may imply MaxDepth of them.
func (u *unpacker) makeParents(name string) error {
	parent := path.Dir(name)
	if parent == "." || parent == u.parent {
		return nil
	}
	for i := 0; i <= len(parent); i++ {
		if i < len(parent) && parent[i] != '/' {
			continue
		}
		made, err := u.makeDir(parent[:i], u.options.Owner)
		if err != nil {
			return err
		}
		if made {
			u.implied++
		}
		if u.totals.Entries+u.implied > u.limits.entries {
			return fmt.Errorf("%w: more than %d entries and directories above them", ErrTooLarge, u.limits.entries)
		}
	}
	u.parent = strings.Clone(parent)
	return nil
}

// makeDir makes one directory that belongs to owner, and reports false if it exists.
func (u *unpacker) makeDir(name string, owner *Owner) (made bool, err error) {
	err = u.root.Mkdir(name, 0o755)
	if err == nil {
		return true, u.ownLink(name, owner)
	}
	if !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	stat := u.root.Lstat
	if u.options.ForeignLinks {
		stat = u.root.Stat
	}
	fi, statErr := stat(name)
	switch {
	case statErr != nil:
		return false, statErr
	case fi.Mode()&fs.ModeSymlink != 0:
		return false, fmt.Errorf("%w: an entry is below the link %.256q", ErrInvalid, name)
	case !fi.IsDir():
		return false, &fs.PathError{Op: "mkdir", Path: name, Err: syscall.ENOTDIR}
	}
	return false, nil
}

// finish sets the modes and times of the directories, those in others before them.
func (u *unpacker) finish() error {
	slices.SortStableFunc(u.dirs, func(a, b directory) int { return strings.Compare(b.name, a.name) })
	for _, d := range u.dirs {
		dir, err := u.root.OpenFile(d.name, os.O_RDONLY|syscall.O_DIRECTORY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return err
		}
		if err = errors.Join(dir.Chmod(d.mode), dir.Close()); err != nil {
			return err
		}
		_ = u.root.Chtimes(d.name, d.time, d.time)
	}
	return nil
}
