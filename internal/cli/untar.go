package cli

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// unpacking writes a stream of tar below root.
//
// The stream is untrusted. root keeps every write inside, regardless of links. A
// name that leads outside is an error. Devices and links that lead outside are left
// out and noted. Of a file's mode only the permission bits are set.
type unpacking struct {
	root  *os.Root
	note  func(format string, args ...any)
	bytes int64
	dirs  []madeDir
}

// madeDir is a directory whose mode is set at the end: it may forbid writing.
type madeDir struct {
	name string
	mode fs.FileMode
}

// all writes the stream.
func (u *unpacking) all(r io.Reader) error {
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		switch {
		case errors.Is(err, io.EOF):
			// Read the padding at the end, or its writer would fail.
			if _, err := io.Copy(io.Discard, r); err != nil {
				return err
			}
			return u.finish()
		case err != nil:
			return err
		}
		if err := u.entry(h, in); err != nil {
			return err
		}
	}
}

func (u *unpacking) entry(h *tar.Header, content io.Reader) error {
	name := filepath.FromSlash(path.Clean(h.Name))
	if !filepath.IsLocal(name) {
		return fmt.Errorf("the sandbox sent a file outside of the directory: %q", h.Name)
	}
	mode := fs.FileMode(h.Mode) & fs.ModePerm
	if h.Typeflag == tar.TypeDir {
		u.dirs = append(u.dirs, madeDir{name, mode})
		return u.root.MkdirAll(name, mode|0o700)
	}
	if err := u.root.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return u.file(name, mode, content)
	case tar.TypeSymlink:
		if filepath.IsAbs(h.Linkname) || !filepath.IsLocal(filepath.Join(filepath.Dir(name), h.Linkname)) {
			u.note("left out the link %s, which leads outside of the directory", printable(h.Name))
			return nil
		}
		if err := u.clear(name); err != nil {
			return err
		}
		return u.root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		first, err := u.root.Open(filepath.FromSlash(path.Clean(h.Linkname)))
		if err != nil {
			return err
		}
		defer first.Close()
		return u.file(name, mode, first)
	default:
		u.note("left out %s, which is no file, directory or link", printable(h.Name))
		return nil
	}
}

// file writes one file in place of any file or link with its name.
func (u *unpacking) file(name string, mode fs.FileMode, content io.Reader) error {
	if err := u.clear(name); err != nil {
		return err
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, content)
	u.bytes += n
	return errors.Join(err, f.Chmod(mode), f.Close())
}

// clear removes a file or link that is in the way.
func (u *unpacking) clear(name string) error {
	if err := u.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// finish sets the modes of the directories, the innermost first.
func (u *unpacking) finish() error {
	for i := len(u.dirs) - 1; i >= 0; i-- {
		if u.dirs[i].name == "." {
			continue // the target itself is the user's
		}
		if err := u.root.Chmod(u.dirs[i].name, u.dirs[i].mode); err != nil {
			return err
		}
	}
	return nil
}
