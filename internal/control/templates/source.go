package templates

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/wrenn-dev/wrenn/internal/control/templates/plan"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Bounds of a context.
const (
	maxContextEntries = 500_000
	// maxContextBytes bounds the size of all files of a context, unpacked.
	maxContextBytes = 16 << 30
	maxContextNames = 64 << 20
	maxContextName  = 4096
)

// file is an entry of a context.
type file struct {
	name string // clean and relative; "." is the root
	typ  byte   // of package tar: TypeReg, TypeDir, TypeSymlink or TypeLink
	mode int64
	link string
	sum  [sha256.Size]byte
}

// index lists the entries of a context, by name.
type index struct{ files []file }

// errArchive is the error of a context that cannot be used.
func errArchive(format string, args ...any) error {
	return fault.New(fault.Invalid, "invalid_archive", "the uploaded files: "+format, args...)
}

// decompress returns the content of a stream that may be compressed with gzip, bzip2 or
// zstd.
func decompress(r io.Reader) (io.Reader, func(), error) {
	br := bufio.NewReaderSize(r, 64<<10)
	head, err := br.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	nothing := func() {}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(br)
		return z, nothing, err
	case bytes.HasPrefix(head, []byte("BZh")):
		return bzip2.NewReader(br), nothing, nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return nil, nil, errArchive("xz is not supported; use gzip or zstd")
	}
	return br, nothing, nil
}

// walkTar calls fn for the entries of a tar with clean names. It bounds their number,
// names and sizes, and refuses names that lead outside.
func walkTar(ctx context.Context, r io.Reader, fn func(h *tar.Header, content io.Reader) error) error {
	in := tar.NewReader(contextReader{ctx, r})
	var entries, names int
	var size int64
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return streamError(ctx, err)
		}
		entries, names = entries+1, names+len(h.Name)+len(h.Linkname)
		if h.Size < 0 || entries > maxContextEntries || names > maxContextNames || h.Size > maxContextBytes-size {
			return fault.New(fault.TooLarge, "archive_too_large",
				"the files have more than %d entries, %d bytes, or %d bytes of names", maxContextEntries, int64(maxContextBytes), maxContextNames)
		}
		size += h.Size
		switch h.Typeflag {
		case tar.TypeDir, tar.TypeReg, tar.TypeSymlink, tar.TypeLink:
		case tar.TypeGNUSparse:
			h.Typeflag = tar.TypeReg
		default:
			continue // devices, pipes and comments
		}
		name, ok := cleanName(h.Name)
		if !ok || len(h.Linkname) > maxContextName {
			return errArchive("the name %.128q leads outside or is too long", h.Name)
		}
		h.Name = name
		if h.Typeflag == tar.TypeLink {
			if h.Linkname, ok = cleanName(h.Linkname); !ok {
				return errArchive("the hard link %.128q leads outside", h.Name)
			}
		}
		if err := fn(h, in); err != nil {
			return err
		}
	}
}

// streamError returns the error of a stream as the caller's, unless ctx has ended or it is
// a fault already.
func streamError(ctx context.Context, err error) error {
	if ctx.Err() != nil || fault.KindOf(err) != fault.Internal {
		return err
	}
	return fault.Wrap(err, fault.Invalid, "invalid_archive", "the files are damaged, or are no tar: %s", err)
}

// cleanName returns a name as a clean relative path. A leading "/" is ignored. It reports
// false for a name that leads outside.
func cleanName(name string) (string, bool) {
	if len(name) > maxContextName || strings.ContainsRune(name, 0) {
		return "", false
	}
	name = path.Clean(strings.TrimLeft(name, "/"))
	return name, name == "." || filepath.IsLocal(name)
}

// readContext calls fn for the entries of an upload.
func (b *builder) readContext(ctx context.Context, key string, fn func(h *tar.Header, content io.Reader) error) error {
	f, err := b.blobs.open(b.build.Template, key)
	if err != nil {
		return err
	}
	defer f.Close()
	r, done, err := decompress(f)
	if err != nil {
		return streamError(ctx, err)
	}
	defer done()
	return walkTar(ctx, r, fn)
}

// index returns the entries of an upload, with the digests of their content. Of equal
// names the last one counts.
func (b *builder) index(ctx context.Context, key string) (*index, error) {
	if known := b.indexes[key]; known != nil {
		return known, nil
	}
	byName := map[string]file{}
	err := b.readContext(ctx, key, func(h *tar.Header, content io.Reader) error {
		f := file{name: strings.Clone(h.Name), typ: h.Typeflag, mode: h.Mode & 0o7777, link: strings.Clone(h.Linkname)}
		if f.typ == tar.TypeReg {
			hash := sha256.New()
			if _, err := io.Copy(hash, content); err != nil {
				return streamError(ctx, err)
			}
			hash.Sum(f.sum[:0])
		}
		byName[f.name] = f
		return nil
	})
	if err != nil {
		return nil, err
	}
	idx := &index{}
	for name, f := range byName {
		idx.files = append(idx.files, f)
		// An archive may lack the directories above its entries.
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, known := byName[dir]; !known {
				byName[dir] = file{name: dir, typ: tar.TypeDir, mode: 0o755}
			}
		}
	}
	idx.files = idx.files[:0]
	for _, f := range byName {
		idx.files = append(idx.files, f)
	}
	slices.SortFunc(idx.files, func(x, y file) int { return strings.Compare(x.name, y.name) })
	b.indexes[key] = idx
	return idx, nil
}

// root is a source of a COPY: an entry that a source of the instruction names.
type root struct {
	name string // "." is everything
	dir  bool
}

// roots returns the entries that the sources of c name.
func (idx *index) roots(c *plan.Copy) ([]root, error) {
	var out []root
	for _, source := range c.Sources {
		found := idx.match(source)
		if len(found) == 0 {
			return nil, fault.New(fault.NotFound, "source_not_found", "no file matches %.256q", source)
		}
		out = append(out, found...)
	}
	return out, nil
}

// match returns the entries that a source names, which may be a pattern. A source that
// leads outside means the root, as in Docker.
func (idx *index) match(source string) []root {
	name := strings.TrimPrefix(path.Clean("/"+source), "/")
	if name == "" {
		return []root{{".", true}}
	}
	var out []root
	pattern := strings.ContainsAny(name, "*?[")
	for _, f := range idx.files {
		if f.name == name || pattern && matchPath(name, f.name) {
			out = append(out, root{f.name, f.typ == tar.TypeDir})
		}
	}
	return out
}

// matchPath reports whether name matches the pattern. "*" stays within a part of a path,
// "**" is any number of parts.
func matchPath(pattern, name string) bool {
	return matchParts(strings.Split(pattern, "/"), strings.Split(name, "/"))
}

// maxParts bounds the work of matching.
const maxParts = 64

func matchParts(pattern, name []string) bool {
	if len(pattern) > maxParts || len(name) > 4*maxParts {
		return false
	}
	// can[i] says that the parts of the pattern so far match the first i parts of name.
	can := make([]bool, len(name)+1)
	can[0] = true
	for _, p := range pattern {
		next := make([]bool, len(name)+1)
		for i := range can {
			if p == "**" {
				next[i] = can[i] || i > 0 && next[i-1]
			} else if i > 0 && can[i-1] {
				next[i], _ = path.Match(p, name[i-1])
			}
		}
		can = next
	}
	return can[len(name)]
}

// excluded reports whether the patterns leave out a name. A pattern matches everything
// below a directory too; the last one that matches decides, and "!" takes back.
func excluded(patterns []string, name string) bool {
	out := false
	for _, p := range patterns {
		p, back := strings.CutPrefix(p, "!")
		p = strings.TrimPrefix(path.Clean("/"+p), "/")
		for prefix := name; prefix != "." && prefix != "/"; prefix = path.Dir(prefix) {
			if matchPath(p, prefix) {
				out = !back
				break
			}
		}
	}
	return out
}

// target returns the name below the destination that an entry gets from a source, and
// false if the source does not have it. The patterns that leave out files are about the
// name below the destination, or about the name in the source.
func (r root) target(name string, c *plan.Copy) (string, bool) {
	out, ok := r.placed(name, c)
	if !ok || excluded(c.Exclude, name) || excluded(c.Exclude, out) {
		return "", false
	}
	return out, true
}

// placed is target without the patterns.
func (r root) placed(name string, c *plan.Copy) (string, bool) {
	switch {
	case r.name == ".":
		return name, true
	case c.Parents && (name == r.name || strings.HasPrefix(name, r.name+"/")):
		return name, true
	case name == r.name && r.dir:
		return ".", true
	case name == r.name:
		return path.Base(name), true
	case r.dir && strings.HasPrefix(name, r.name+"/"):
		return name[len(r.name)+1:], true
	}
	return "", false
}

// sourceKey returns the digest of the files that a COPY takes; empty for other steps.
func (b *builder) sourceKey(ctx context.Context, step plan.Step, st state) (string, error) {
	c := step.Copy
	switch {
	case c == nil:
		return "", nil
	case c.Stage > 0:
		return b.stages[c.Stage-1].key(), nil
	case c.Base != nil:
		base, err := b.baseOf(ctx, *c.Base)
		return base.key, err
	case len(c.Sources) == 0:
		return "", nil
	}
	idx, err := b.index(ctx, c.Context)
	if err != nil {
		return "", err
	}
	roots, err := idx.roots(c)
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	for _, r := range roots {
		for _, f := range idx.files {
			if name, ok := r.target(f.name, c); ok {
				_, _ = io.WriteString(hash, digest(name, f.typ, f.mode, f.link, f.sum))
			}
		}
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
