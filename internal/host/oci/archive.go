package oci

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/wrenn-dev/wrenn/internal/archive"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// OpenArchive unpacks an archive into the empty directory dir and reads the manifest and
// the settings of its image. The archive is a tar, which may be compressed with gzip, of
// an OCI image layout or as "docker save" writes it. An archive of several images is an
// error. Room is asked now and then whether the disk has room for more, also while a
// compressed archive grows; its error ends the call.
func OpenArchive(ctx context.Context, l Limits, dir string, content io.Reader, room func() error) (*Image, error) {
	l = l.withDefaults()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	s := &directory{root: root}
	i, err := s.open(ctx, l, content, room)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	i.close = func() { _ = root.Close() }
	return i, nil
}

// directory is an unpacked archive as a source.
type directory struct {
	root *os.Root
	// files are the names of the layers of "docker save", by the digest of their
	// uncompressed bytes; nil for a layout.
	files map[v1.Hash]string
}

func (s *directory) open(ctx context.Context, l Limits, content io.Reader, room func() error) (*Image, error) {
	sent, space := &erring{r: content}, &gauge{room: room, every: l.Room}
	in, err := plain(sent)
	if err == nil {
		_, err = archive.Unpack(ctx, s.root, in, archive.Unpacking{Limit: l.Archive, Umask: 0o077, Room: space.spend})
	}
	switch {
	case space.err != nil:
		return nil, space.err
	case sent.err != nil:
		return nil, sent.err
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, archive.ErrTooLarge):
		return nil, fault.Wrap(err, fault.TooLarge, "image_too_large", "the archive of the image has more than %d bytes or too many files", l.Archive)
	case errors.Is(err, archive.ErrInvalid), errors.Is(err, archive.ErrIncomplete), errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum), errors.Is(err, io.ErrUnexpectedEOF), isCorrupt(err):
		return nil, damaged(err, "it is no whole archive (tar) of an OCI layout or of docker save")
	case err != nil:
		return nil, err
	}
	if _, err := s.root.Lstat("index.json"); err == nil {
		return s.layout(ctx, l)
	}
	if _, err := s.root.Lstat("manifest.json"); err == nil {
		return s.saved(l)
	}
	return nil, damaged(nil, "the archive has neither index.json (an OCI layout) nor manifest.json (docker save)")
}

// plain returns the uncompressed content of r.
func plain(r io.Reader) (io.Reader, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	if magic, _ := buffered.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return gzip.NewReader(buffered)
	}
	return buffered, nil
}

// layout reads an OCI image layout.
func (s *directory) layout(ctx context.Context, l Limits) (*Image, error) {
	raw, err := s.read("index.json", l.Manifest)
	if err != nil {
		return nil, err
	}
	var index document
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, damaged(err, "its index.json is no JSON document")
	}
	if n := imagesOf(index.Manifests); n > 1 {
		return nil, fault.New(fault.Invalid, "image_ambiguous", "the archive holds %d images; save one alone", n)
	}
	d, err := digest("sha256", raw)
	if err != nil {
		return nil, err
	}
	return resolve(ctx, s, l, v1.Descriptor{Digest: d}, raw)
}

// imagesOf returns the number of images in the index of a layout: entries that differ in
// their platforms alone are one.
func imagesOf(all []v1.Descriptor) int {
	platforms := make(map[string]int)
	most := 0
	for _, d := range all {
		key := ""
		if d.Platform != nil {
			key = d.Platform.String()
		}
		platforms[key]++
		most = max(most, platforms[key])
	}
	return most
}

// saved reads an archive of "docker save" without an index.
func (s *directory) saved(l Limits) (*Image, error) {
	raw, err := s.read("manifest.json", l.Manifest)
	if err != nil {
		return nil, err
	}
	var all []struct {
		Config string
		Layers []string
	}
	if err := json.Unmarshal(raw, &all); err != nil || len(all) == 0 {
		return nil, damaged(err, "its manifest.json names no image")
	}
	if len(all) > 1 {
		return nil, fault.New(fault.Invalid, "image_ambiguous", "the archive holds %d images; save one alone", len(all))
	}
	config, err := s.read(all[0].Config, l.Config)
	if err != nil {
		return nil, err
	}
	d, err := digest("sha256", config)
	if err != nil {
		return nil, err
	}
	var c v1.ConfigFile
	if err := json.Unmarshal(config, &c); err != nil || len(c.RootFS.DiffIDs) != len(all[0].Layers) {
		return nil, damaged(err, "its settings list other layers than its manifest.json")
	}
	s.files = make(map[v1.Hash]string)
	blobs := make([]v1.Descriptor, len(all[0].Layers))
	for n, file := range all[0].Layers {
		st, err := s.root.Stat(clean(file))
		if err != nil || !st.Mode().IsRegular() {
			return nil, damaged(err, "a file of its layers is missing")
		}
		blobs[n] = v1.Descriptor{Size: st.Size(), Digest: v1.Hash{}}
		s.files[c.RootFS.DiffIDs[n]] = clean(file)
	}
	i := &Image{Digest: d.String(), source: s, limits: l, close: func() {}}
	return i, i.configure(config, blobs)
}

// clean returns a file's name in an archive as a relative one.
func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// read returns the file called name, of at most limit bytes.
func (s *directory) read(name string, limit int64) ([]byte, error) {
	f, err := s.file(clean(name))
	if err != nil {
		return nil, damaged(err, "its file of settings is missing")
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		return nil, tooLarge("a manifest or its settings have more than %d bytes", limit)
	}
	return b, err
}

// file opens a regular file.
func (s *directory) file(name string) (*os.File, error) {
	st, err := s.root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return s.root.Open(name)
}

func (s *directory) manifest(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	return s.blob(ctx, d)
}

func (s *directory) layer(ctx context.Context, l layer) (io.ReadCloser, error) {
	if name, ok := s.files[l.diff]; ok {
		return s.file(name)
	}
	return s.blob(ctx, l.blob)
}

func (s *directory) blob(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	f, err := s.file(path.Join("blobs", d.Digest.Algorithm, d.Digest.Hex))
	if err != nil {
		return nil, damaged(err, "the archive lacks the blob %s", d.Digest)
	}
	return f, nil
}

// erring is a reader that keeps its error.
type erring struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (w *erring) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}

func readCloserOf(b []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(b)) }

// isCorrupt reports whether err is of compressed data that cannot be read.
func isCorrupt(err error) bool {
	var corrupt flate.CorruptInputError
	return errors.As(err, &corrupt)
}
