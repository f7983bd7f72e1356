package oci

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/klauspost/compress/zstd"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Job are the parts of an Unpack that belong to its caller.
type Job struct {
	// Scratch is a directory for downloads, and Root the empty directory of the tree.
	Scratch, Root string
	// Room is asked now and then whether the disk has room for more. Its error ends
	// the job.
	Room func() error
	// Progress is told of the bytes of layers, as they are stored, that are done.
	Progress func(stage string, done, total int64)
}

// Attempts at the download of a layer, and the wait before the second, which doubles.
const (
	downloadAttempts = 4
	downloadWait     = time.Second
)

// Unpack fetches the layers one after the other, checks each, and applies it to the tree.
func (i *Image) Unpack(ctx context.Context, job Job) error {
	t, err := newTree(job.Root, i.limits, job.Room)
	if err != nil {
		return err
	}
	defer t.close()
	var done int64
	for n, l := range i.layers {
		path := filepath.Join(job.Scratch, fmt.Sprintf("layer-%d", n))
		if err := i.fetch(ctx, l, path, job, done); err != nil {
			return err
		}
		done += l.blob.Size
		job.Progress("unpack", done, i.Size())
		if err := applyFile(ctx, t, l, path); err != nil {
			return err
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// fetch writes a layer, as it is stored, to the file at path and checks its digest. A
// download that breaks is repeated.
func (i *Image) fetch(ctx context.Context, l layer, path string, job Job, before int64) error {
	for attempt := 1; ; attempt++ {
		err := i.fetchOnce(ctx, l, path, job, before)
		if err == nil || ctx.Err() != nil || attempt == downloadAttempts || !mayPass(err) {
			return i.sourceFault(err)
		}
		select {
		case <-time.After(downloadWait << (attempt - 1)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// sourceFault returns the error of a download as a fault.
func (i *Image) sourceFault(err error) error {
	s, remote := i.source.(*hub)
	if err == nil || !remote {
		return err
	}
	ref, bad := name.ParseReference(i.Reference)
	if bad != nil {
		ref = s.repository.Digest(i.Digest)
	}
	return registryFault(err, ref)
}

func (i *Image) fetchOnce(ctx context.Context, l layer, path string, job Job, before int64) (err error) {
	in, err := i.source.layer(ctx, l)
	if err != nil {
		return err
	}
	defer in.Close()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	algorithm := l.blob.Digest.Algorithm
	if algorithm == "" { // of docker save: only the uncompressed bytes have a digest
		algorithm = "sha256"
	}
	sum, err := v1.Hasher(algorithm)
	if err != nil {
		return damaged(err, "a layer has the unknown digest %s", l.blob.Digest)
	}
	limited := io.LimitReader(roomy{in, &gauge{room: job.Room, every: i.limits.Room}}, l.blob.Size+1)
	n, err := io.Copy(&reporting{w: io.MultiWriter(f, sum), report: func(done int64) { job.Progress("pull", before+done, i.Size()) }}, stopping{ctx, limited})
	got := v1.Hash{Algorithm: algorithm, Hex: hex.EncodeToString(sum.Sum(nil))}
	if n < l.blob.Size && err != nil {
		return err
	}
	if n != l.blob.Size || l.blob.Digest != (v1.Hash{}) && got != l.blob.Digest {
		return damaged(err, "the content of the layer %s is another one", l.blob.Digest)
	}
	return err
}

// mayPass reports whether another attempt at a download may succeed.
func mayPass(err error) bool {
	var f *fault.Error
	var answer *transport.Error
	return !errors.As(err, &f) && !errors.As(err, &answer) && !errors.Is(err, errNotAllowed) && !isDisk(err)
}

// reporting is a writer that reports the number of bytes, at most once for each MiB.
type reporting struct {
	w            io.Writer
	report       func(int64)
	done, before int64
}

// Write implements io.Writer.
func (r *reporting) Write(p []byte) (int, error) {
	n, err := r.w.Write(p)
	if r.done += int64(n); r.done-r.before >= 1<<20 {
		r.before = r.done
		r.report(r.done)
	}
	return n, err
}

// stopping is a reader that ends with ctx.
type stopping struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (s stopping) Read(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		return 0, context.Cause(s.ctx)
	}
	return s.r.Read(p)
}

// applyFile applies the layer at path, and compares the digest of its uncompressed bytes.
func applyFile(ctx context.Context, t *tree, l layer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	in, done, err := uncompressed(f)
	if err != nil {
		return damaged(err, "the layer %s cannot be decompressed", l.diff)
	}
	defer done()
	sum, err := v1.Hasher(l.diff.Algorithm)
	if err != nil {
		return damaged(err, "a layer has the unknown digest %s", l.diff)
	}
	counted := &counting{r: stopping{ctx, in}, sum: sum, left: t.stream()}
	if err := t.apply(counted); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return asFault(err, func(err error) error {
			if isDisk(err) {
				return err
			}
			return damaged(err, "the layer %s cannot be unpacked", l.diff)
		})
	}
	if _, err := io.Copy(io.Discard, counted); err != nil { // behind the end of the archive
		return asFault(err, func(err error) error { return damaged(err, "the layer %s cannot be decompressed", l.diff) })
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != l.diff.Hex {
		return damaged(nil, "the content of the layer %s is another one", l.diff)
	}
	return nil
}

// maxWindow bounds the memory of a decompression by zstd, in bytes. The default of its
// compressors is far below.
const maxWindow = 128 << 20

// uncompressed returns the content of a layer, which tells its compression by its first
// bytes.
func uncompressed(f io.Reader) (io.Reader, func(), error) {
	r := bufio.NewReaderSize(f, 256<<10)
	magic, _ := r.Peek(4)
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(r)
		return z, func() {}, err
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return r, func() {}, nil
}

// counting is a reader that hashes, and fails behind a number of bytes.
type counting struct {
	r    io.Reader
	sum  hash.Hash
	left int64
}

// Read implements io.Reader.
func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	_, _ = c.sum.Write(p[:n])
	if c.left -= int64(n); c.left < 0 {
		return 0, tooLarge("its layers have more bytes than the limit when they are decompressed")
	}
	return n, err
}
