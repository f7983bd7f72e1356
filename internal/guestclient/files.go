package guestclient

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"path"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// WriteFile describes the file that Client.WriteFile replaces.
type WriteFile struct {
	// Path is resolved by the guest. User owns the file; empty is the default
	// user.
	Path, User string
	// Mode is permission bits; nil is the guest's default.
	Mode *uint32
	// Archive makes the content an archive (tar), which is unpacked below Path.
	Archive bool
	// Preserve keeps the owners that the archive names by number, and set-id bits.
	Preserve bool
}

// call returns the type and the message of the call.
func (w WriteFile) call() (guestwire.Type, proto.Message) {
	if w.Archive {
		return guestwire.Unpack, &guestv1.UnpackCall{Path: w.Path, User: w.User, Preserve: w.Preserve}
	}
	return guestwire.WriteFile, &guestv1.WriteFileCall{Path: w.Path, User: w.User, Mode: w.Mode}
}

// ReadFile describes the file that Client.ReadFile opens.
type ReadFile struct {
	// Path is resolved by the guest, for User; empty is the default user.
	Path, User string
	// Archive asks for the path with everything below it, as an archive (tar).
	Archive bool
	// Range asks for a part of the file; nil is all of it.
	Range *FileRange
}

// FileRange selects a part of a file.
type FileRange struct {
	// Offset is that of the first byte; a negative one counts from the end.
	Offset int64
	// Length is in bytes; 0 means to the end.
	Length uint64
	// IfTag asks for the whole file if its tag is another; empty asks for the part in
	// any case.
	IfTag string
}

// call returns the type and the message of the call.
func (r ReadFile) call() (guestwire.Type, proto.Message) {
	if r.Archive {
		return guestwire.Pack, &guestv1.PackCall{Path: r.Path}
	}
	m := &guestv1.ReadFileCall{Path: r.Path, User: r.User}
	if g := r.Range; g != nil {
		m.Ranged, m.Offset, m.Length, m.IfTag = true, g.Offset, g.Length, g.IfTag
	}
	return guestwire.ReadFile, m
}

// File is a file being read. The caller closes Body.
type File struct {
	Name string
	// Size is -1 when it is not known beforehand.
	Size int64
	// Part says that the content is a part of the file, with its place; nil is the
	// whole file. A part of no bytes means that the range is beyond the end.
	Part *FilePart
	// Tag changes with the content; empty where the guest does not know.
	Tag        string
	ModifiedAt time.Time
	// Body ends with io.EOF only after the complete file.
	Body io.ReadCloser
}

// FilePart is the place of a part, in bytes, and the size of its file.
type FilePart struct{ Offset, Total int64 }

// WriteFile replaces one file with the content of r and returns its size in bytes.
// The guest replaces the file completely or not at all. r is not read after the
// return, and its errors are returned unchanged. If the guest takes no bytes for the
// client's stall limit, the failure is Timeout guest_unresponsive; whether the file
// was replaced is then unknown.
func (c *Client) WriteFile(ctx context.Context, w WriteFile, r io.Reader) (int64, error) {
	x, err := c.open(ctx)
	if err != nil {
		return 0, err
	}
	// The guest refuses a bad path before the content is sent.
	x.limit()
	t, call := w.call()
	if err := x.roundTrip(t, call, nil); err != nil {
		if w.Archive {
			err = c.orUnsupported(ctx, err)
		}
		return 0, err
	}
	if !x.unlimit() { // the next answer comes when all has been sent
		return 0, x.fail(net.ErrClosed)
	}
	return x.send(r)
}

// ReadFile opens one file of the guest. If the guest sends no bytes for the client's
// stall limit, the call or a later Read fails with Timeout guest_unresponsive.
func (c *Client) ReadFile(ctx context.Context, r ReadFile) (File, error) {
	x, err := c.open(ctx)
	if err != nil {
		return File{}, err
	}
	x.limit()
	info := &guestv1.FileInfo{}
	t, call := r.call()
	if err := x.roundTrip(t, call, info); err != nil {
		if r.Archive {
			err = c.orUnsupported(ctx, err)
		}
		return File{}, err
	}
	if !plainInfo(r, info) {
		return File{}, x.fail(errDisorder)
	}
	body := &fileBody{x: x, missing: info.GetSize()}
	f := File{
		Name: path.Base(r.Path), Size: info.GetSize(), Tag: info.GetTag(), ModifiedAt: time.Unix(0, info.GetModifiedUnixNano()),
		Body: bufferedBody{bufio.NewReaderSize(body, bufferBytes), body},
	}
	if info.GetRanged() {
		f.Part = &FilePart{Offset: int64(info.GetOffset()), Total: int64(info.GetTotal())}
	}
	return f, nil
}

// maxTagBytes is the longest tag of a file.
const maxTagBytes = 64

// plainInfo reports whether info may be an honest guest's answer to r.
func plainInfo(r ReadFile, info *guestv1.FileInfo) bool {
	tag, size := info.GetTag(), info.GetSize()
	if size < -1 || len(tag) > maxTagBytes || strings.Trim(tag, "0123456789abcdefghijklmnopqrstuvwxyz-") != "" {
		return false
	}
	if !info.GetRanged() {
		return true
	}
	offset, total := info.GetOffset(), info.GetTotal()
	return r.Range != nil && size >= 0 && total <= maxOffset && offset <= total && uint64(size) <= total-offset &&
		(r.Range.Length == 0 || uint64(size) <= r.Range.Length) &&
		(size == 0 || r.Range.Offset < 0 || offset == uint64(r.Range.Offset))
}

// bufferedBody reads from the guest in large pieces, even if its reader asks for
// small ones.
type bufferedBody struct {
	*bufio.Reader
	io.Closer
}

// fileBody is the content of a file on its way from the guest.
type fileBody struct {
	x *exchange
	// missing is the number of bytes of the announced size that have not arrived;
	// negative if no size was announced.
	missing int64
	left    int   // unread bytes of the current frame
	err     error // the result of every later Read
}

// Read implements io.Reader.
func (b *fileBody) Read(p []byte) (int, error) {
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	if b.left == 0 {
		if b.err = b.next(); b.err != nil {
			return 0, b.err
		}
	}
	n := copy(p, b.x.conn.reader.Buffered(min(b.left, len(p))))
	if n == 0 {
		var err error
		n, err = b.x.conn.Read(p[:min(b.left, len(p))])
		if n == 0 && err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			b.err = b.x.fail(err)
			return 0, b.err
		}
	}
	b.left -= n
	return n, nil
}

// next reads the header of the next frame. io.EOF is the end of a complete file.
func (b *fileBody) next() error {
	t, n, err := b.x.conn.reader.Header()
	switch {
	case errors.Is(err, io.EOF):
		return b.x.fail(io.ErrUnexpectedEOF)
	case err != nil:
		return b.x.fail(err)
	case t == guestwire.Failure && n <= maxErrorBytes:
		payload, err := b.x.conn.reader.Take(n)
		if err != nil {
			return b.x.fail(err)
		}
		return b.x.failure(payload)
	case t == guestwire.End && n == 0 && b.missing <= 0:
		b.x.finish(true)
		return io.EOF
	case t != guestwire.Data || n == 0 || n > guestwire.MaxData || b.missing >= 0 && int64(n) > b.missing:
		return b.x.fail(errDisorder)
	}
	b.left = n
	if b.missing >= 0 {
		b.missing -= int64(n)
	}
	return nil
}

// Close implements io.Closer. Unread bytes are discarded with the connection.
func (b *fileBody) Close() error {
	b.x.finish(false)
	return nil
}
