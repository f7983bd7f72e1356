package archive

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// Unpacking are the options of Unpack.
type Unpacking struct {
	// Limit is the largest size of all files, in bytes; 0 is MaxBytes.
	Limit int64
	// Owner owns everything that is made; nil leaves it to the system.
	Owner *Owner
	// Preserve gives each entry to the owner that the archive names by number, and keeps
	// set-id and sticky bits. Owner then owns only the directories that the archive lacks.
	Preserve bool
	// ForeignLinks makes links with any target, and lets entries pass through
	// links that stay in the directory. Without it, links that lead outside are left
	// out, and an entry below a link is an error.
	ForeignLinks bool
	// Umask are the permission bits that no file or directory gets.
	Umask fs.FileMode
	// KeepDirs keeps the modes and times of directories that are there.
	KeepDirs bool
	// Room is asked before n bytes are written, and for each entry with the bytes of a
	// block. Its error ends the call. Nil allows everything.
	Room func(n int64) error
	// LeftOut is told of entries that are left out, with the reason. Nil ignores them.
	LeftOut func(name, why string)

	limits limits // replaces those that are not 0, in tests
}

// Owner is a user and a group by number.
type Owner struct{ UID, GID int }

// Unpack writes the archive r below root. Each file appears complete under its name; a
// file that is there is replaced, a directory stays. An error leaves the entries before
// it in place. Permission bits and times are kept, and set-id bits are not. Hard links
// are made to files of the same archive only.
func Unpack(ctx context.Context, root *os.Root, r io.Reader, options Unpacking) (Totals, error) {
	src := &source{Reader: stopping{ctx, r}}
	u := unpacker{
		root: root, in: tar.NewReader(src), options: options, limits: options.limits.or(options.Limit),
		seed: maphash.MakeSeed(), files: make(map[uint64]inode), buf: make([]byte, copyBytes),
	}
	for {
		h, err := u.in.Next()
		if errors.Is(err, io.EOF) {
			return u.totals, errors.Join(src.finish(), u.finish())
		}
		if err == nil {
			err = outside(u.entry(h), h.Name)
		}
		if err != nil {
			return u.totals, src.classify(err)
		}
	}
}

// outside returns ErrInvalid for the error with which os.Root refuses to follow a link
// out of the directory. It is the one of its errors that is not of the kernel.
func outside(err error, name string) error {
	var errno syscall.Errno
	var byPath *fs.PathError
	var byLink *os.LinkError
	if (errors.As(err, &byPath) || errors.As(err, &byLink)) && !errors.As(err, &errno) && !errors.Is(err, io.ErrShortWrite) {
		return fmt.Errorf("%w: a link leads the entry %.256q out of the directory", ErrInvalid, name)
	}
	return err
}

// source is the stream of an archive.
type source struct {
	io.Reader
	ended bool
	err   error
}

// Read implements io.Reader. It returns io.EOF alone, so that ended means that more
// bytes were wanted than there are.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if n > 0 && errors.Is(err, io.EOF) {
		return n, nil
	}
	s.ended = s.ended || errors.Is(err, io.EOF)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// maxPadding bounds the bytes after the end marker, in bytes.
const maxPadding = 1 << 20

// finish reads the padding after the end marker. The reader of tar takes the end of
// the stream for the marker; it is not, because a stream that was cut ends as well.
func (s *source) finish() error {
	if s.ended {
		return fmt.Errorf("%w: its end marker is missing", ErrIncomplete)
	}
	n, err := io.Copy(io.Discard, io.LimitReader(s, maxPadding+1))
	if err == nil && n > maxPadding {
		return fmt.Errorf("%w: there is data after its end marker", ErrInvalid)
	}
	return err
}

// classify returns the error of the stream, if that is the cause of err.
func (s *source) classify(err error) error {
	switch {
	case s.err != nil:
		return s.err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: it ends within an entry", ErrIncomplete)
	case errors.Is(err, tar.ErrHeader):
		return fmt.Errorf("%w: it is no tar", ErrInvalid)
	}
	return err
}

// unpacker is one Unpack.
type unpacker struct {
	root    *os.Root
	in      *tar.Reader
	options Unpacking
	limits  limits
	totals  Totals
	// implied counts the directories that were made above entries.
	implied int
	// dirs are the directories whose modes are set at the end.
	dirs []directory
	// names is the size of the names in dirs, in bytes.
	names int
	// parent is the last directory that was made or found.
	parent string
	// files are the files that were written, by the hashes of their names. Hard links may
	// be made to them.
	seed  maphash.Seed
	files map[uint64]inode
	buf   []byte
}

// entry writes one entry.
func (u *unpacker) entry(h *tar.Header) error {
	name, ok := local(h.Name)
	if !ok {
		return fmt.Errorf("%w: the name %.64q leads outside of the directory or is too long", ErrInvalid, h.Name)
	}
	if err := u.count(h.Size); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeXGlobalHeader || name == "." {
		return nil // the directory itself is the caller's
	}
	switch h.Typeflag {
	case tar.TypeDir, tar.TypeReg, tar.TypeGNUSparse, tar.TypeSymlink, tar.TypeLink:
	default:
		u.leftOut(name, "it is no file, directory or link")
		return nil
	}
	if err := u.room(entryBytes); err != nil {
		return err
	}
	if err := u.makeParents(name); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.dir(name, h)
	case tar.TypeSymlink:
		return u.symlink(name, h)
	case tar.TypeLink:
		return u.link(name, h.Linkname)
	default:
		return u.file(name, h)
	}
}

// entryBytes is the space on disk that an entry without content may take: a directory
// has a block of its own.
const entryBytes = 4096

// room asks for room for n bytes.
func (u *unpacker) room(n int64) error {
	if u.options.Room == nil {
		return nil
	}
	return u.options.Room(n)
}

// roomy is the content of a file, which asks for room before its bytes are written. The
// holes of a sparse file are bytes of it, which the stream does not have.
type roomy struct{ u *unpacker }

// Read implements io.Reader.
func (r roomy) Read(p []byte) (int, error) {
	n, err := r.u.in.Read(p)
	if full := r.u.room(int64(n)); full != nil {
		return 0, full
	}
	return n, err
}

// count counts an entry of size bytes, also one of which nothing is written: each costs
// time to read.
func (u *unpacker) count(size int64) error {
	left := u.limits
	left.entries -= u.implied
	if err := u.totals.add(size, left); err != nil {
		return fmt.Errorf("%w: more than %d entries or %d bytes", err, u.limits.entries, u.limits.bytes)
	}
	return nil
}

// mode returns the permission bits of an entry.
func (u *unpacker) mode(h *tar.Header) fs.FileMode {
	mode := fs.FileMode(h.Mode) & fs.ModePerm &^ u.options.Umask
	if !u.options.Preserve {
		return mode
	}
	for bit, m := range map[int64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if h.Mode&bit != 0 {
			mode |= m
		}
	}
	return mode
}

// owner returns the owner of an entry; nil leaves it to the system.
func (u *unpacker) owner(h *tar.Header) (*Owner, error) {
	if !u.options.Preserve {
		return u.options.Owner, nil
	}
	// The kernel leaves an id as it is if it is asked for the last one (chown(2)).
	if h.Uid < 0 || h.Gid < 0 || h.Uid >= math.MaxUint32 || h.Gid >= math.MaxUint32 {
		return nil, fmt.Errorf("%w: the owner of %.256q is out of range", ErrInvalid, h.Name)
	}
	return &Owner{UID: h.Uid, GID: h.Gid}, nil
}

func (u *unpacker) leftOut(name, why string) {
	if u.options.LeftOut != nil {
		u.options.LeftOut(name, why)
	}
}

// ownLink gives name, or the link name itself, to owner.
func (u *unpacker) ownLink(name string, owner *Owner) error {
	if owner == nil {
		return nil
	}
	return u.root.Lchown(name, owner.UID, owner.GID)
}

// temporary returns an unused name beside name.
func temporary(name string) string {
	return path.Join(path.Dir(name), ".wrenn-"+rand.Text())
}

// replace renames a temporary file to name, and removes it if that fails.
func (u *unpacker) replace(tmp, name string, err error) error {
	if err == nil {
		err = u.root.Rename(tmp, name)
	}
	if err != nil {
		_ = u.root.Remove(tmp)
	}
	return err
}

// file writes a file.
func (u *unpacker) file(name string, h *tar.Header) error {
	owner, err := u.owner(h)
	if err != nil {
		return err
	}
	tmp := temporary(name)
	f, err := u.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, roomy{u}, u.buf)
	if err == nil && owner != nil {
		err = f.Chown(owner.UID, owner.GID)
	}
	if err == nil {
		err = f.Chmod(u.mode(h))
	}
	var fi fs.FileInfo
	if err == nil {
		fi, err = f.Stat()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		_ = u.root.Chtimes(tmp, h.ModTime, h.ModTime) // a time that the file system cannot hold
	}
	if err = u.replace(tmp, name, err); err == nil {
		u.files[maphash.String(u.seed, name)] = inodeOf(fi)
	}
	return err
}

// symlink makes the symbolic link that h describes.
func (u *unpacker) symlink(name string, h *tar.Header) error {
	target := h.Linkname
	owner, err := u.owner(h)
	if err != nil {
		return err
	}
	if target == "" || len(target) > maxName || strings.ContainsRune(target, 0) {
		return fmt.Errorf("%w: the target of the link %.256q cannot be used", ErrInvalid, name)
	}
	if !u.options.ForeignLinks && !inside(path.Dir(name), target) {
		u.leftOut(name, "the link leads outside of the directory")
		return nil
	}
	tmp := temporary(name)
	if err := u.root.Symlink(target, tmp); err != nil {
		return err
	}
	delete(u.files, maphash.String(u.seed, name)) // link(2) would give the link another place
	return u.replace(tmp, name, u.ownLink(tmp, owner))
}

// inside reports whether a link in dir, which is below no other link, leads to a place
// in the directory, through any other links of the archive. It accepts ".." only
// at the begin of target: after another part, that part may be a link, whose parent is
// elsewhere.
func inside(dir, target string) bool {
	if filepath.IsAbs(target) || !filepath.IsLocal(filepath.Join(dir, target)) {
		return false
	}
	below := false
	for _, part := range strings.Split(target, "/") {
		switch {
		case part == ".." && below:
			return false
		case part != "" && part != "." && part != "..":
			below = true
		}
	}
	return true
}

// link makes a hard link to a file that the archive has written, and that still has its
// name. link(2) does not follow a symbolic link: one that replaced the file would get a
// second place, from which its target is another.
func (u *unpacker) link(name, first string) error {
	first, ok := local(first)
	written, known := u.files[maphash.String(u.seed, first)]
	if !ok || !known {
		return fmt.Errorf("%w: %.256q is a hard link to a file that is not in the archive", ErrInvalid, name)
	}
	if fi, err := u.root.Lstat(first); err != nil {
		return err
	} else if !fi.Mode().IsRegular() || inodeOf(fi) != written {
		return fmt.Errorf("%w: %.256q is a hard link to a file that was replaced", ErrInvalid, name)
	}
	tmp := temporary(name)
	if err := u.root.Link(first, tmp); err != nil {
		return err
	}
	err := u.replace(tmp, name, nil)
	_ = u.root.Remove(tmp) // rename(2) leaves it if both are names of one file
	return err
}
