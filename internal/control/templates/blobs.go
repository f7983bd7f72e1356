package templates

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/durable"
	"github.com/wrenn-dev/wrenn/internal/linux/flock"
)

// Bounds of uploads.
const (
	// MaxBlobBytes is the largest size of an upload in bytes.
	MaxBlobBytes = 2 << 30
	// maxBlobsBytes bounds all uploads together. Those used least recently go first.
	maxBlobsBytes = 20 << 30
	// blobAge is how long an upload stays after its last use.
	blobAge = 24 * time.Hour
)

var (
	blobKey      = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)
	blobTemplate = regexp.MustCompile(`^[a-z0-9]{1,64}$`)
)

// sharedBlobs is the place of the template in the names of uploads of no template.
const sharedBlobs = "_"

// uploadPrefix begins the names of the files of uploads under way.
const uploadPrefix = ".upload-"

// abandonedAge is how long nothing was written to the file of an upload under way before its
// lock is looked at: between the file and its lock is a moment.
const abandonedAge = time.Minute

// blobs are the uploads, one file each, with the time of their last use as their
// modification time. Names of files are "TEMPLATE.KEY". The file of an upload under way has
// the prefix uploadPrefix and is locked by its server, because several servers may share the
// directory.
type blobs struct {
	dir       string
	max, room int64

	mu       sync.Mutex // serializes evictions; protects the following
	uploaded int64      // bytes of uploads under way
}

// openBlobs opens the directory, and removes uploads that a crash has interrupted. It does not
// touch those of other servers.
func openBlobs(dir string) (*blobs, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fault.Wrap(err, fault.Internal, "uploads_unavailable", "the directory of uploads cannot be made")
	}
	b := &blobs{dir: dir, max: MaxBlobBytes, room: maxBlobsBytes}
	return b, b.removeAbandoned()
}

// removeAbandoned removes the uploads under way whose server has ended.
func (b *blobs) removeAbandoned() error {
	left, err := filepath.Glob(filepath.Join(b.dir, uploadPrefix+"*"))
	if err != nil {
		return err
	}
	for _, name := range left {
		if fi, err := os.Lstat(name); err != nil || time.Since(fi.ModTime()) < abandonedAge {
			continue
		}
		f, err := os.OpenFile(name, os.O_RDWR|syscall.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		if flock.Try(f) == nil {
			_ = os.Remove(name)
		}
		_ = f.Close()
	}
	return nil
}

// path returns the file of a key.
func (b *blobs) path(key BlobKey) (string, error) {
	if !blobKey.MatchString(key.Key) || (key.Template != "" && !blobTemplate.MatchString(string(key.Template))) {
		return "", fault.New(fault.Invalid, "invalid_upload", "the key of an upload is 1 to 128 letters, digits, '_' and '-'")
	}
	return filepath.Join(b.dir, cmp.Or(string(key.Template), sharedBlobs)+"."+key.Key), nil
}

// has reports whether there is an upload, and marks it as used.
func (b *blobs) has(key BlobKey) (bool, error) {
	path, err := b.path(key)
	if err != nil {
		return false, err
	}
	now := time.Now()
	err = os.Chtimes(path, now, now)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// open opens an upload and marks it as used. A template's own upload comes before a
// shared one with the same key.
func (b *blobs) open(template ID, key string) (*os.File, error) {
	for _, t := range []ID{template, ""} {
		k := BlobKey{Template: t, Key: key}
		path, err := b.path(k)
		if err != nil {
			return nil, err
		}
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			_, _ = b.has(k)
		}
		return f, err
	}
	return nil, fault.New(fault.NotFound, "upload_not_found", "the upload %.64s is not here any more; upload the files again", key)
}

// put stores an upload.
func (b *blobs) put(ctx context.Context, key BlobKey, content io.Reader) (err error) {
	path, err := b.path(key)
	if err != nil {
		return err
	}
	tmp := filepath.Join(b.dir, uploadPrefix+rand.Text())
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		if err = flock.Try(f); err != nil {
			_ = f.Close()
			_ = os.Remove(tmp)
		}
	}
	if err != nil {
		return fault.Wrap(err, fault.Internal, "uploads_unavailable", "the upload cannot be stored")
	}
	w := &blobWriter{blobs: b, file: f, hash: sha256.New()}
	defer func() {
		b.release(w.size)
		_ = f.Close()
		if err != nil {
			_ = os.Remove(tmp)
		}
	}()
	if _, err := io.Copy(w, contextReader{ctx, content}); err != nil {
		return err
	}
	if sum := hex.EncodeToString(w.hash.Sum(nil)); key.Digest != "" && key.Digest != sum {
		return fault.New(fault.Invalid, "digest_mismatch", "the upload has the SHA-256 %s instead of %.64s", sum, key.Digest)
	}
	if err := f.Sync(); err != nil {
		return fault.Wrap(err, fault.Internal, "uploads_unavailable", "the upload cannot be stored")
	}
	if err := os.Rename(tmp, path); err != nil {
		return fault.Wrap(err, fault.Internal, "uploads_unavailable", "the upload cannot be stored")
	}
	return durable.Sync(b.dir)
}

// contextReader ends reads with the cause of ctx.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (r contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}

// blobWriter writes an upload within the bounds.
type blobWriter struct {
	blobs *blobs
	file  *os.File
	hash  interface {
		io.Writer
		Sum([]byte) []byte
	}
	size int64
}

// Write implements io.Writer.
func (w *blobWriter) Write(p []byte) (int, error) {
	if w.size+int64(len(p)) > w.blobs.max {
		return 0, fault.New(fault.TooLarge, "upload_too_large", "an upload may have at most %d bytes", w.blobs.max)
	}
	if err := w.blobs.reserve(int64(len(p))); err != nil {
		return 0, err
	}
	w.size += int64(len(p))
	_, _ = w.hash.Write(p)
	n, err := w.file.Write(p)
	if err != nil {
		err = fault.Wrap(err, fault.Internal, "uploads_unavailable", "the upload cannot be stored; the disk may be full")
	}
	return n, err
}

// reserve makes room for n bytes more.
func (b *blobs) reserve(n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.uploaded += n
	if b.uploaded <= b.room/8 && b.uploaded/evictEvery == (b.uploaded-n)/evictEvery {
		return nil
	}
	if err := b.evict(b.room-b.uploaded, blobAge); err != nil {
		b.uploaded -= n
		return err
	}
	if b.uploaded > b.room {
		b.uploaded -= n
		return fault.New(fault.Quota, "uploads_full", "the uploads under way have more than %d bytes together; try again later", b.room)
	}
	return nil
}

// evictEvery is how many bytes of uploads lead to a look at the directory.
const evictEvery = 256 << 20

// release gives the room of an upload that has ended back: its file counts now.
func (b *blobs) release(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.uploaded -= n
}

// expire removes blobs that are too old or beyond the limit.
func (b *blobs) expire() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Join(b.removeAbandoned(), b.evict(b.room-b.uploaded, blobAge))
}

// evict removes the uploads older than age, and the oldest ones until the others have at
// most room bytes. The caller holds mu.
func (b *blobs) evict(room int64, age time.Duration) error {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return err
	}
	var files []fs.FileInfo
	for _, e := range entries {
		if fi, err := e.Info(); err == nil && fi.Mode().IsRegular() && e.Name()[0] != '.' {
			files = append(files, fi)
		}
	}
	slices.SortFunc(files, func(x, y fs.FileInfo) int { return cmp.Compare(y.ModTime().UnixNano(), x.ModTime().UnixNano()) })
	for _, fi := range files { // the newest first
		room -= fi.Size()
		if room < 0 || time.Since(fi.ModTime()) > age {
			if err := os.Remove(filepath.Join(b.dir, fi.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			room += fi.Size()
		}
	}
	return nil
}

// removeTemplate removes the uploads of a template.
func (b *blobs) removeTemplate(id ID) {
	if !blobTemplate.MatchString(string(id)) {
		return
	}
	files, _ := filepath.Glob(filepath.Join(b.dir, string(id)+".*"))
	for _, f := range files {
		_ = os.Remove(f)
	}
}
