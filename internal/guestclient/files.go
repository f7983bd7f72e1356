package guestclient

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"path"

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
}

// File is a file being read. The caller closes Body.
type File struct {
	Name string
	// Size is -1 when it is not known beforehand.
	Size int64
	// Body ends with io.EOF only after the complete file.
	Body io.ReadCloser
}

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
	if err := x.roundTrip(guestwire.WriteFile, &guestv1.WriteFileCall{Path: w.Path, User: w.User, Mode: w.Mode}, nil); err != nil {
		return 0, err
	}
	if !x.unlimit() { // the next answer comes when all has been sent
		return 0, x.fail(net.ErrClosed)
	}
	return x.send(r)
}

// ReadFile opens one file of the guest. If the guest sends no bytes for the client's
// stall limit, the call or a later Read fails with Timeout guest_unresponsive.
func (c *Client) ReadFile(ctx context.Context, name, user string) (File, error) {
	x, err := c.open(ctx)
	if err != nil {
		return File{}, err
	}
	x.limit()
	info := &guestv1.FileInfo{}
	if err := x.roundTrip(guestwire.ReadFile, &guestv1.ReadFileCall{Path: name, User: user}, info); err != nil {
		return File{}, err
	}
	if info.GetSize() < -1 {
		return File{}, x.fail(errDisorder)
	}
	body := &fileBody{x: x, missing: info.GetSize()}
	return File{Name: path.Base(name), Size: info.GetSize(), Body: bufferedBody{bufio.NewReaderSize(body, bufferBytes), body}}, nil
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
