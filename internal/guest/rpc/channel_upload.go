package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/filesystem"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// writeFile replaces a file with the data that follows.
func (c *channel) writeFile(ctx context.Context, message []byte) error {
	m, err := guestwire.ParseWriteFileCall(message)
	if err != nil {
		return errMessage(err)
	}
	w, err := c.server.fileToWrite(ctx, m)
	if err != nil {
		return err
	}
	body := &dataFrames{ctx: ctx, channel: c}
	_, err = c.server.files.Write(w, body)
	switch {
	case err == nil:
		return c.send(guestwire.Answer, nil)
	case errors.Is(err, errHangUp):
		return errHangUp
	case body.begun:
		return c.failAmidData(err)
	default:
		return err
	}
}

// fileToWrite works out where the content of m goes.
func (s *Server) fileToWrite(ctx context.Context, m *guestv1.WriteFileCall) (filesystem.Write, error) {
	who, err := s.actorNamed(ctx, m.GetUser())
	if err != nil {
		return filesystem.Write{}, err
	}
	if m.GetPath() == "" {
		return filesystem.Write{}, fault.New(fault.Invalid, "invalid_path", "path is required")
	}
	if m.GetMode() > 0o777 {
		return filesystem.Write{}, fault.New(fault.Invalid, "invalid_mode", "mode must be permission bits, at most 0777")
	}
	path, err := who.resolveFile(m.GetPath())
	return filesystem.Write{Path: path, Owner: who.owner(), Chown: m.GetUser() != "", Mode: m.Mode}, err
}

// dataFrames is the content of Data frames until End. The first read asks for
// them: until then the peer waits.
type dataFrames struct {
	ctx     context.Context
	channel *channel
	begun   bool
	left    int // of the present frame
	ended   bool
}

// next makes left positive. After End, and only then, it reports false without
// an error: a connection that ends makes no whole file.
func (d *dataFrames) next() (more bool, err error) {
	c := d.channel
	if !d.begun {
		d.begun = true
		if err := c.send(guestwire.Answer, nil); err != nil {
			return false, err
		}
	}
	if d.ended {
		return false, nil
	}
	if err := c.awaitData(d.ctx); err != nil || d.left > 0 {
		return d.left > 0, err
	}
	t, n, err := c.reader.Header()
	switch {
	case err != nil:
		return false, d.broken(err)
	case t == guestwire.End && n == 0:
		d.ended = true
		return false, nil
	case t != guestwire.Data || n == 0 || n > guestwire.MaxData:
		return false, d.broken(guestwire.ErrMalformed)
	}
	d.left = n
	return true, nil
}

// broken classifies a failed read: the epoch's end comes as a timeout. The
// result is never io.EOF, which readers take for the end of the content.
func (d *dataFrames) broken(err error) error {
	if d.ctx.Err() != nil {
		return context.Cause(d.ctx)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return errors.Join(errHangUp, errBody(err))
}

// Read implements io.Reader.
func (d *dataFrames) Read(p []byte) (int, error) {
	more, err := d.next()
	if err != nil {
		return 0, err
	}
	if !more {
		return 0, io.EOF
	}
	b := d.channel.reader.Buffered(min(d.left, len(p)))
	n := copy(p, b)
	if n == 0 {
		if n, err = d.channel.conn.Read(p[:min(d.left, len(p))]); err != nil {
			return 0, d.broken(err)
		}
	}
	d.left -= n
	return n, nil
}

// WriteTo implements io.WriterTo: it lets the kernel move the content into a
// file (splice(2)), past this process.
func (d *dataFrames) WriteTo(w io.Writer) (written int64, err error) {
	for {
		if more, err := d.next(); err != nil || !more {
			return written, err
		}
		n, err := d.move(w)
		written += n
		if err != nil {
			return written, err
		}
	}
}

// move hands on what is left of the present frame.
func (d *dataFrames) move(w io.Writer) (int64, error) {
	n, err := w.Write(d.channel.reader.Buffered(d.left))
	d.left -= n
	if err != nil || d.left == 0 {
		return int64(n), err
	}
	m, err := io.Copy(w, &io.LimitedReader{R: bare(d.channel.conn), N: int64(d.left)})
	d.left -= int(m)
	if err == nil && d.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	if fromPeer(err) {
		err = d.broken(err)
	}
	return int64(n) + m, err
}

// fromPeer reports whether err of a copy from a connection to a file is the
// connection's.
func fromPeer(err error) bool {
	for _, e := range []error{io.ErrUnexpectedEOF, os.ErrDeadlineExceeded, os.ErrClosed, net.ErrClosed, syscall.ECONNRESET, syscall.ETIMEDOUT} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// bare returns the connection that the kernel knows.
func bare(conn net.Conn) net.Conn {
	if c, ok := conn.(*countedConn); ok {
		return c.NetConn()
	}
	return conn
}
