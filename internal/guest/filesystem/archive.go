package filesystem

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/wrenn-dev/wrenn/internal/archive"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Packed is a directory or file that is open to be packed. The caller closes it.
type Packed struct {
	root *os.Root
	path string
	name string // in root
}

// OpenPacked opens path, a directory or a regular file, to be packed.
func (f *Files) OpenPacked(path string) (*Packed, error) {
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return nil, errMissing(path, err)
	case err != nil:
		return nil, classify(path, err)
	case fi.IsDir():
		root, err := os.OpenRoot(path)
		return &Packed{root: root, path: path, name: "."}, classify(path, err)
	case fi.Mode().IsRegular():
		root, err := os.OpenRoot(filepath.Dir(path))
		return &Packed{root: root, path: path, name: filepath.Base(path)}, classify(path, err)
	}
	return nil, errSpecial(path)
}

// Write writes the archive to w. It leaves out sockets, pipes and devices, and the
// content of the kernel's file systems.
func (p *Packed) Write(ctx context.Context, w io.Writer) error {
	_, err := archive.Pack(ctx, p.root, p.name, w, archive.Packing{
		Enter: func(dir *os.File) bool { return !generated(dir) }, SetID: true,
	})
	return archiveFault(p.path, err)
}

// Close closes the directory.
func (p *Packed) Close() error { return p.root.Close() }

// Unpack writes the archive r below the directory path, which is made with its missing
// parents. Everything new belongs to owner, or with preserve to the owners that the
// archive names by number; then set-id bits are kept, and directories that exist stay as they are. Each file appears complete, and an error
// leaves the entries before it in place. No link is followed out of path.
func (f *Files) Unpack(ctx context.Context, path string, owner Owner, preserve bool, r io.Reader) error {
	if err := checkWritable(path, path); err != nil {
		return err
	}
	if err := makeParents(path, owner); err != nil {
		return err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return classify(path, err)
	}
	defer root.Close()
	_, err = archive.Unpack(ctx, root, r, archive.Unpacking{
		Owner: &archive.Owner{UID: int(owner.UID), GID: int(owner.GID)}, ForeignLinks: true,
		Preserve: preserve, KeepDirs: preserve,
	})
	return archiveFault(path, err)
}

// archiveFault returns the error of an archive as a fault.
func archiveFault(path string, err error) error {
	var byPath *os.PathError
	switch {
	case errors.Is(err, archive.ErrInvalid):
		return fault.Wrap(err, fault.Invalid, "invalid_archive", "%s; entries before it were written", err)
	case errors.Is(err, archive.ErrIncomplete):
		return fault.Wrap(err, fault.Invalid, "archive_incomplete", "%s", err)
	case errors.Is(err, archive.ErrTooLarge):
		return fault.Wrap(err, fault.TooLarge, "archive_too_large", "%s", err)
	case errors.As(err, &byPath):
		return classify(filepath.Join(path, byPath.Path), err)
	}
	return classify(path, err)
}
