package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"
)

// Packing are the options of Pack.
type Packing struct {
	// Limit is the largest size of all files, in bytes; 0 is MaxBytes.
	Limit int64
	// LeftOut is told of files that are left out: sockets, pipes and devices. Nil
	// ignores them.
	LeftOut func(name string)
	// Enter decides whether the content of an opened directory is packed. Nil packs
	// every directory.
	Enter func(dir *os.File) bool
	// SetID keeps set-id and sticky bits.
	SetID bool
}

// Pack writes name and everything below it to w. The entries of a directory have names
// relative to it; a file has its own name. Links are kept as links, also hard links
// between the files of the archive. Of the owners only the numbers are kept, of the
// modes only the permission bits unless SetID is set. A file that becomes shorter meanwhile is an error.
// The end of ctx ends Pack with its cause.
func Pack(ctx context.Context, root *os.Root, name string, w io.Writer, p Packing) (Totals, error) {
	k := packer{ctx: ctx, root: root, out: tar.NewWriter(w), options: p, limits: limits{}.or(p.Limit), first: make(map[inode]string), buf: make([]byte, copyBytes)}
	fi, err := root.Stat(name)
	if err != nil {
		return k.totals, err
	}
	if fi.IsDir() {
		err = k.dir(name, "", 0)
	} else {
		err = k.entry(name, path.Base(name), fi, 0)
	}
	if err != nil {
		return k.totals, err
	}
	return k.totals, k.out.Close()
}

const (
	// copyBytes is the size of the pieces in which files are read.
	copyBytes = 128 << 10
	// readBatch is the number of entries that are read of a directory at once.
	readBatch = 512
)

// inode identifies a file with several names.
type inode struct{ dev, ino uint64 }

// inodeOf returns the identity of a file.
func inodeOf(fi fs.FileInfo) inode {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}
	}
	return inode{uint64(st.Dev), st.Ino}
}

// packer is one Pack.
type packer struct {
	ctx     context.Context
	root    *os.Root
	out     *tar.Writer
	options Packing
	limits  limits
	totals  Totals
	first   map[inode]string // the first name of a file with several
	buf     []byte
}

// dir packs the entries of the directory at. Each gets a name below prefix. It keeps a
// descriptor open for each level, which MaxDepth bounds, and reads directories in
// batches.
func (k *packer) dir(at, prefix string, depth int) error {
	if depth >= MaxDepth {
		return fmt.Errorf("%w: directories are nested deeper than %d levels", ErrTooLarge, MaxDepth)
	}
	// A link that replaced the directory is not followed, except at the top.
	flags := os.O_RDONLY | syscall.O_DIRECTORY | syscall.O_NONBLOCK
	dir, err := k.root.OpenFile(at, flags, 0)
	if err != nil {
		return gone(err, depth)
	}
	defer dir.Close()
	if k.options.Enter != nil && !k.options.Enter(dir) {
		return nil
	}
	for {
		batch, err := dir.ReadDir(readBatch)
		for _, e := range batch {
			name := path.Join(prefix, e.Name())
			fi, err := k.root.Lstat(path.Join(at, e.Name()))
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed since the directory was read
			}
			if err == nil {
				err = k.entry(path.Join(at, e.Name()), name, fi, depth+1)
			}
			if err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// gone returns nil for the error of a directory below the top that has gone.
func gone(err error, depth int) error {
	if depth > 0 && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// entry packs the file at, of any type, under name.
func (k *packer) entry(at, name string, fi fs.FileInfo, depth int) error {
	if k.ctx.Err() != nil {
		return context.Cause(k.ctx)
	}
	if _, ok := local(name); !ok {
		return fmt.Errorf("%w: the name that begins with %.64q is too long", ErrTooLarge, name)
	}
	h := header(name, fi)
	k.setID(h, fi)
	switch mode := fi.Mode(); {
	case mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
		if err := k.write(h, nil); err != nil {
			return err
		}
		return k.dir(at, name, depth)
	case mode&fs.ModeSymlink != 0:
		target, err := k.root.Readlink(at)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
		return k.write(h, nil)
	case mode.IsRegular():
		return k.file(at, h)
	}
	if k.options.LeftOut != nil {
		k.options.LeftOut(name)
	}
	return nil
}

// setID adds the bits that SetID keeps.
func (k *packer) setID(h *tar.Header, fi fs.FileInfo) {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && k.options.SetID {
		h.Mode |= int64(st.Mode) & 0o7000
	}
}

// header returns the entry of a file without its type.
func header(name string, fi fs.FileInfo) *tar.Header {
	h := &tar.Header{Name: name, Mode: int64(fi.Mode().Perm()), ModTime: fi.ModTime().Truncate(time.Microsecond), Format: tar.FormatPAX}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		h.Uid, h.Gid = int(st.Uid), int(st.Gid)
	}
	return h
}

// file packs a regular file, or a link to the entry of the same file. It looks at the
// opened file, because the name may be another's by now.
func (k *packer) file(at string, h *tar.Header) error {
	f, err := k.root.OpenFile(at, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("%w: %.256q was replaced while it was read", ErrInvalid, h.Name)
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
		id := inodeOf(fi)
		if first, known := k.first[id]; known {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return k.write(h, nil)
		}
		k.first[id] = h.Name
	}
	h.Typeflag, h.Size = tar.TypeReg, fi.Size()
	return k.write(h, f)
}

// write writes an entry with the first h.Size bytes of content.
func (k *packer) write(h *tar.Header, content io.Reader) error {
	if err := k.totals.add(h.Size, k.limits); err != nil {
		return fmt.Errorf("%w: more than %d entries or %d bytes", err, MaxEntries, k.limits.bytes)
	}
	if err := k.out.WriteHeader(h); err != nil || content == nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{k.out}, struct{ io.Reader }{io.LimitReader(stopping{k.ctx, content}, h.Size)}, k.buf)
	if err == nil && n < h.Size {
		return fmt.Errorf("%w: %.256q became shorter while it was read", ErrIncomplete, h.Name)
	}
	return err
}

// stopping is a reader that fails once ctx has ended.
type stopping struct {
	ctx context.Context
	io.Reader
}

func (s stopping) Read(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		return 0, context.Cause(s.ctx)
	}
	return s.Reader.Read(p)
}
