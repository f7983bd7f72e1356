package oci

import (
	"archive/tar"
	"errors"
	"hash/maphash"
	"io"
	"os"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Names of whiteouts, by the image specification.
const (
	whiteout       = ".wh."
	opaqueWhiteout = ".wh..wh..opq"
)

// tree is the directory to which layers are applied. Nobody else may change it
// meanwhile.
//
// Every name is resolved by the kernel with the tree as its root (openat2(2) with
// RESOLVE_IN_ROOT), so that links lead to where they lead in the image, and never out.
// The last part of a name is never followed.
type tree struct {
	root   *os.File
	path   string // of root, without links
	limits Limits
	space  *gauge
	owners bool // the process may give files away

	entries int   // of all layers
	bytes   int64 // of all files that were written
	buf     []byte

	seed maphash.Seed
	// fresh are the names that the layer under way has made, and their parents: whiteouts
	// do not concern them. They are hashes with a random seed.
	fresh map[uint64]struct{}
	// last is the last directory that was opened, since entries of one follow each
	// other; nil where a change may have given the name to another one.
	last     *dir
	lastName string
	// stale says that something was removed since last was opened.
	stale bool
}

// dir is an open directory of the tree.
type dir struct {
	fd int
	// name is relative to the root, without links; "" is the root.
	name string
}

func newTree(root string, l Limits, room func() error) (*tree, error) {
	f, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	at, err := os.Readlink(procFD(int(f.Fd())))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &tree{
		root: f, path: at, limits: l, space: &gauge{room: room, every: l.Room}, owners: os.Geteuid() == 0,
		buf: make([]byte, 256<<10), seed: maphash.MakeSeed(),
	}, nil
}

func procFD(fd int) string { return "/proc/self/fd/" + itoa(fd) }

func (t *tree) close() {
	t.forget()
	_ = t.root.Close()
}

// stream returns the number of bytes that the uncompressed stream of a layer may have:
// the rest of the files' limit, with headers.
func (t *tree) stream() int64 {
	return t.limits.Unpacked - t.bytes + int64(t.limits.Entries-t.entries)*2048 + 4<<20
}

// apply applies one layer.
func (t *tree) apply(r io.Reader) error {
	t.fresh = make(map[uint64]struct{})
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := t.entry(in, h); err != nil {
			return err
		}
	}
}

// count counts n entries against the limit, and asks for room for them.
func (t *tree) count(n int) error {
	if t.entries += n; t.entries > t.limits.Entries {
		return tooLarge("its layers have more than %d entries", t.limits.Entries)
	}
	return t.space.spend(int64(n) * entryBytes)
}

// entry applies one entry of a layer.
func (t *tree) entry(in io.Reader, h *tar.Header) error {
	if err := t.count(1); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := relative(h.Name)
	if err != nil {
		return err
	}
	if name == "" { // the root itself
		return t.setOwner(int(t.root.Fd()), ".", h, unix.AT_EMPTY_PATH)
	}
	parent, base := path.Split(name)
	d, err := t.open(strings.TrimSuffix(parent, "/"), !strings.HasPrefix(base, whiteout))
	if err != nil {
		if strings.HasPrefix(base, whiteout) && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)) {
			return nil // nothing is there to be hidden
		}
		return err
	}
	if strings.HasPrefix(base, whiteout) {
		return t.whiteout(d, base)
	}
	return t.make(in, h, d, base)
}

// relative returns the name of an entry relative to the root: absolute names are taken as
// relative ones, as Docker does.
func relative(name string) (string, error) {
	if len(name) > maxName || strings.ContainsRune(name, 0) {
		return "", damaged(nil, "an entry of a layer has a name that is too long or holds a NUL")
	}
	name = path.Clean(strings.TrimLeft(name, "/"))
	if name == "." || name == "" {
		return "", nil
	}
	parts := strings.Split(name, "/")
	if parts[0] == ".." || len(parts) > maxDepth {
		return "", damaged(nil, "an entry of a layer has a name that leads out of the image or is too deep")
	}
	for _, p := range parts {
		if len(p) > maxPart {
			return "", damaged(nil, "an entry of a layer has a name that is too long")
		}
	}
	return name, nil
}

// forget closes the directory that was opened last.
func (t *tree) forget() {
	if t.last != nil && t.last.fd != int(t.root.Fd()) {
		_ = unix.Close(t.last.fd)
	}
	t.last, t.lastName, t.stale = nil, "", false
}

// open returns the directory called name, as the image's links lead. It makes missing
// ones if that is asked for. The tree owns the result, until the next call.
func (t *tree) open(name string, making bool) (*dir, error) {
	if t.last != nil && t.lastName == name && !t.stale {
		return t.last, nil
	}
	t.forget()
	if name == "" {
		t.last = &dir{fd: int(t.root.Fd())}
		return t.last, nil
	}
	fd, err := t.resolve(name)
	if errors.Is(err, unix.ENOENT) && making {
		if err = t.makeParents(name); err == nil {
			fd, err = t.resolve(name)
		}
	}
	if err != nil {
		return nil, err
	}
	at, err := os.Readlink(procFD(fd))
	inside, ok := strings.CutPrefix(at, strings.TrimSuffix(t.path, "/")+"/")
	if err == nil && !ok && at != t.path {
		err = damaged(nil, "a name of a layer leads out of the image")
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	if at == t.path {
		inside = ""
	}
	if strings.Count(inside, "/") >= maxDepth { // a name with links may be short
		_ = unix.Close(fd)
		return nil, damaged(nil, "the directories of its layers are nested deeper than %d levels", maxDepth)
	}
	t.last, t.lastName = &dir{fd, inside}, name
	return t.last, nil
}

// resolve opens the directory called name with the tree as the root directory.
func (t *tree) resolve(name string) (int, error) {
	how := &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	for {
		fd, err := unix.Openat2(int(t.root.Fd()), name, how)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
}

// makeParents makes the missing directories of name. Each counts as an entry.
func (t *tree) makeParents(name string) error {
	at := 0
	for at < len(name) {
		next := strings.IndexByte(name[at:], '/')
		if next < 0 {
			next = len(name) - at
		}
		parent, base := strings.TrimSuffix(name[:at], "/"), name[at:at+next]
		d, err := t.open(parent, false)
		if err != nil {
			return err
		}
		switch err := unix.Mkdirat(d.fd, base, 0o755); {
		case err == nil:
			if err := t.count(1); err != nil {
				return err
			}
			t.mark(d.name, base)
		case !errors.Is(err, unix.EEXIST):
			return err
		}
		at += next + 1
	}
	return nil
}

// key returns the hash of a name without links.
func (t *tree) key(name string) uint64 { return maphash.String(t.seed, name) }

func join(parent, base string) string {
	if parent == "" {
		return base
	}
	return parent + "/" + base
}

// mark records that the layer under way has made base in parent.
func (t *tree) mark(parent, base string) {
	for name := join(parent, base); name != ""; {
		key := t.key(name)
		if _, ok := t.fresh[key]; ok {
			return // and so are its parents
		}
		t.fresh[key] = struct{}{}
		if at := strings.LastIndexByte(name, '/'); at >= 0 {
			name = name[:at]
		} else {
			name = ""
		}
	}
}

// isFresh reports whether the layer under way has made name, or something below it.
func (t *tree) isFresh(name string) bool {
	_, ok := t.fresh[t.key(name)]
	return ok
}

// isDisk reports whether err is of the disk and not of the image.
func isDisk(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EIO) || errors.Is(err, unix.EROFS) ||
		errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
