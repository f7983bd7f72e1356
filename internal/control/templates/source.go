package templates

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Bounds of a context.
const (
	maxContextEntries = 500_000
	// maxContextBytes bounds the size of all files of a context, unpacked.
	maxContextBytes = 16 << 30
	maxContextNames = 64 << 20
	maxContextName  = 4096
	// maxNameParts is the most parts of a name, and maxNamePart the longest one in bytes, as
	// for the layers of images and for Linux.
	maxNameParts = 256
	maxNamePart  = 255
)

// file is an entry of a context.
type file struct {
	name string // clean and relative; "." is the root
	typ  byte   // of package tar: TypeReg, TypeDir, TypeSymlink or TypeLink
	mode int64
	link string
	sum  [sha256.Size]byte
}

// index lists the entries of a context.
type index struct {
	files []file // sorted by name
	// upload is the SHA-256 of the file from which the entries were read.
	upload [sha256.Size]byte
}

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
			return tooMany("the files have more than %d entries, %d bytes, or %d bytes of names", maxContextEntries, int64(maxContextBytes), maxContextNames)
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
			return errArchive("the name %.128q leads outside, is too long or too deep", h.Name)
		}
		h.Name = name
		if h.Typeflag == tar.TypeLink {
			if h.Linkname, ok = cleanName(h.Linkname); !ok {
				return errArchive("the hard link %.128q leads outside, is too long or too deep", h.Name)
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
// false for a name that leads outside, is too long or too deep.
func cleanName(name string) (string, bool) {
	if len(name) > maxContextName || strings.ContainsRune(name, 0) {
		return "", false
	}
	name = path.Clean(strings.TrimLeft(name, "/"))
	parts := 0
	for part := range strings.SplitSeq(name, "/") {
		if parts++; parts > maxNameParts || len(part) > maxNamePart {
			return "", false
		}
	}
	return name, name == "." || filepath.IsLocal(name)
}

// readContext calls fn for the entries of an upload, and returns the SHA-256 of its file.
func (b *builder) readContext(ctx context.Context, key string, fn func(h *tar.Header, content io.Reader) error) ([sha256.Size]byte, error) {
	var sum [sha256.Size]byte
	f, err := b.blobs.open(b.build.Template, key)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	hash := sha256.New()
	raw := io.TeeReader(contextReader{ctx, f}, hash)
	r, done, err := decompress(raw)
	if err != nil {
		return sum, streamError(ctx, err)
	}
	defer done()
	if err := walkTar(ctx, r, fn); err != nil {
		return sum, err
	}
	// The rest belongs to the file too.
	if _, err := io.Copy(io.Discard, raw); err != nil {
		return sum, err
	}
	hash.Sum(sum[:0])
	return sum, nil
}

// index returns the entries of an upload, with the digests of their content. Of equal
// names the last one counts.
func (b *builder) index(ctx context.Context, key string) (*index, error) {
	if known := b.indexes[key]; known != nil {
		return known, nil
	}
	byName := map[string]file{}
	sum, err := b.readContext(ctx, key, func(h *tar.Header, content io.Reader) error {
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
	idx := &index{upload: sum}
	if idx.files, err = withDirectories(ctx, byName); err != nil {
		return nil, err
	}
	b.indexes[key] = idx
	return idx, nil
}

// withDirectories returns the files by name, with the directories above them, which an archive
// may lack. These count as entries.
func withDirectories(ctx context.Context, byName map[string]file) ([]file, error) {
	out := slices.Collect(maps.Values(byName))
	for i := 0; i < len(out); i++ {
		if err := checkEvery(ctx, i); err != nil {
			return nil, err
		}
		dir := parent(out[i].name)
		if _, known := byName[dir]; dir == "." || known {
			continue // those above are known, or come with it
		}
		if len(out) >= maxContextEntries {
			return nil, tooMany("the files have more than %d entries, with the directories above them", maxContextEntries)
		}
		byName[dir] = file{name: dir, typ: tar.TypeDir, mode: 0o755}
		out = append(out, byName[dir])
	}
	slices.SortFunc(out, func(x, y file) int { return strings.Compare(x.name, y.name) })
	return out, nil
}

// checkEvery returns the cause of the end of ctx in some rounds of a loop.
func checkEvery(ctx context.Context, round int) error {
	if round%1024 == 0 && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// tooMany is the error of files that exceed a bound.
func tooMany(format string, args ...any) error {
	return fault.New(fault.TooLarge, "archive_too_large", format, args...)
}
