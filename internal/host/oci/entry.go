package oci

import (
	"archive/tar"
	"errors"
	"io"
	"math"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func itoa(n int) string { return strconv.Itoa(n) }

// make makes the entry h as base in d, in place of anything that is there. A directory
// keeps its content.
func (t *tree) make(in io.Reader, h *tar.Header, d *dir, base string) error {
	switch h.Typeflag {
	case tar.TypeChar, tar.TypeBlock:
		return nil // the guest makes its own devices
	case tar.TypeDir, tar.TypeReg, tar.TypeGNUSparse, tar.TypeSymlink, tar.TypeLink, tar.TypeFifo:
	default:
		return damaged(nil, "a layer has an entry of the unknown type %q", h.Typeflag)
	}
	var st unix.Stat_t
	err := unix.Fstatat(d.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == nil:
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		if isDir && h.Typeflag == tar.TypeDir {
			t.mark(d.name, base)
			return t.setOwner(d.fd, base, h, 0)
		}
		if h.Typeflag == tar.TypeLink && t.isItself(h, d, base) {
			return nil
		}
		if err := t.remove(d, base); err != nil {
			return err
		}
	case !errors.Is(err, unix.ENOENT):
		return err
	}
	if err := t.create(in, h, d, base); err != nil {
		return err
	}
	t.mark(d.name, base)
	return nil
}

// isItself reports whether a hard link is to its own name.
func (t *tree) isItself(h *tar.Header, d *dir, base string) bool {
	target, err := relative(h.Linkname)
	return err == nil && target == join(d.name, base)
}

// create makes the entry h as base in d, where nothing is.
func (t *tree) create(in io.Reader, h *tar.Header, d *dir, base string) error {
	switch h.Typeflag {
	case tar.TypeDir:
		if err := unix.Mkdirat(d.fd, base, 0o700); err != nil {
			return err
		}
	case tar.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) > maxName || strings.ContainsRune(h.Linkname, 0) {
			return damaged(nil, "a link of a layer has no usable target")
		}
		if err := unix.Symlinkat(h.Linkname, d.fd, base); err != nil {
			return err
		}
	case tar.TypeFifo:
		if err := unix.Mknodat(d.fd, base, unix.S_IFIFO|0o600, 0); err != nil {
			return err
		}
	case tar.TypeLink:
		return t.link(h, d, base)
	default:
		return t.file(in, h, d, base)
	}
	return t.setOwner(d.fd, base, h, 0)
}

// link makes a hard link to a file of this layer or of one below.
func (t *tree) link(h *tar.Header, d *dir, base string) error {
	target, err := relative(h.Linkname)
	if err != nil || target == "" {
		return damaged(err, "a hard link of a layer leads out of the image")
	}
	parent, last := path.Split(target)
	// The next open would close d.
	own, err := unix.FcntlInt(uintptr(d.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(own)
	to, err := t.open(strings.TrimSuffix(parent, "/"), false)
	if err != nil {
		return damaged(err, "a hard link of a layer leads to no file")
	}
	if err := unix.Linkat(to.fd, last, own, base, 0); err != nil {
		if isDisk(err) {
			return err
		}
		return damaged(err, "a hard link of a layer leads to no file")
	}
	return nil
}

// file writes a regular file.
func (t *tree) file(in io.Reader, h *tar.Header, d *dir, base string) (err error) {
	if h.Size < 0 || h.Size > t.limits.Unpacked-t.bytes {
		return tooLarge("its files have more than %d bytes", t.limits.Unpacked)
	}
	t.bytes += h.Size
	fd, err := unix.Openat(d.fd, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer func() { err = errors.Join(err, f.Close()) }()
	n, err := io.CopyBuffer(onlyWriter{f}, roomy{in, t.space}, t.buf)
	if err != nil {
		return err
	}
	if n != h.Size {
		return io.ErrUnexpectedEOF
	}
	return t.setOwner(fd, "", h, unix.AT_EMPTY_PATH)
}

// onlyWriter hides the other methods of a file, so that the buffer is used.
type onlyWriter struct{ io.Writer }

// setOwner gives base in the directory fd, or fd itself, the owner and the mode of h.
func (t *tree) setOwner(fd int, base string, h *tar.Header, flags int) error {
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) >= math.MaxUint32 || int64(h.Gid) >= math.MaxUint32 {
		return damaged(nil, "an entry of a layer has no possible owner")
	}
	if base == "." {
		base = ""
	}
	if t.owners {
		if err := unix.Fchownat(fd, base, h.Uid, h.Gid, flags|unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	mode := uint32(h.Mode & 0o7777)
	switch {
	case h.Typeflag == tar.TypeSymlink:
		return nil
	case flags&unix.AT_EMPTY_PATH != 0:
		return unix.Fchmod(fd, mode)
	}
	// It is no link: it was made, or looked at, just before.
	return unix.Fchmodat(fd, base, mode, 0)
}

// whiteout removes the content of layers below: one name, or the whole content of d.
func (t *tree) whiteout(d *dir, base string) error {
	if base == opaqueWhiteout {
		return t.removeOld(d)
	}
	hidden := strings.TrimPrefix(base, whiteout)
	if hidden == "" || hidden == "." || hidden == ".." || strings.HasPrefix(hidden, whiteout) {
		return nil // of tools for other file systems, such as .wh..wh.plnk
	}
	return t.removeOldName(d, hidden)
}

// removeOldName removes base in d, without the parts that the layer under way has made.
func (t *tree) removeOldName(d *dir, base string) error {
	if !t.isFresh(join(d.name, base)) {
		return t.remove(d, base)
	}
	fd, err := unix.Openat(d.fd, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil // a file of this layer
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return t.removeOld(&dir{fd, join(d.name, base)})
}

// removeOld removes the content of d, without the parts that the layer under way has made.
func (t *tree) removeOld(d *dir) error {
	names, err := namesIn(d.fd)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := t.removeOldName(d, name); err != nil {
			return err
		}
	}
	return nil
}

// remove removes base in d with everything below it. It follows no link.
func (t *tree) remove(d *dir, base string) error {
	t.stale = true
	err := unix.Unlinkat(d.fd, base, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	fd, err := unix.Openat(d.fd, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	names, err := namesIn(fd)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := t.remove(&dir{fd: fd}, name); err != nil {
			return err
		}
	}
	return unix.Unlinkat(d.fd, base, unix.AT_REMOVEDIR)
}

// namesIn returns the names in the directory fd.
func namesIn(fd int) ([]string, error) {
	own, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(own), ".")
	defer f.Close()
	return f.Readdirnames(-1)
}
