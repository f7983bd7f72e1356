package channel

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/wrenn-dev/wrenn/internal/guest/agent"
	"github.com/wrenn-dev/wrenn/internal/guest/listener"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// writeFile replaces a file with the data that follows.
func (c *connection) writeFile(ctx context.Context, message []byte) error {
	m, err := guestwire.ParseWriteFileCall(message)
	if err != nil {
		return errMessage(err)
	}
	actor, err := c.agent.Actor(ctx, m.GetUser())
	if err != nil {
		return err
	}
	w, err := actor.FileToWrite(m.GetPath(), m.Mode)
	if err != nil {
		return err
	}
	body := &dataFrames{ctx: ctx, connection: c}
	_, err = c.agent.Files().Write(w, body)
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

// dataFrames reads the content of Data frames until End. The first read sends the
// Answer on which the peer starts sending.
type dataFrames struct {
	ctx        context.Context
	connection *connection
	begun      bool
	left       int // unread bytes of the current frame
	ended      bool
}

// next reads headers until left is positive. It reports false without an error
// only after End: a connection that breaks leaves no complete file.
func (d *dataFrames) next() (more bool, err error) {
	c := d.connection
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

// broken classifies a failed read: at the end of the epoch, reads time out. The
// result is never io.EOF, which would mean the end of the content.
func (d *dataFrames) broken(err error) error {
	if d.ctx.Err() != nil {
		return context.Cause(d.ctx)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return errors.Join(errHangUp, agent.UploadFault(err))
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
	b := d.connection.reader.Buffered(min(d.left, len(p)))
	n := copy(p, b)
	if n == 0 {
		if n, err = d.connection.conn.Read(p[:min(d.left, len(p))]); err != nil {
			return 0, d.broken(err)
		}
	}
	d.left -= n
	return n, nil
}

// WriteTo implements io.WriterTo. It lets the kernel move the content into a file
// (splice(2)) without copying it through this process.
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

// move writes the rest of the current frame to w.
func (d *dataFrames) move(w io.Writer) (int64, error) {
	n, err := w.Write(d.connection.reader.Buffered(d.left))
	d.left -= n
	if err != nil || d.left == 0 {
		return int64(n), err
	}
	m, err := io.Copy(w, &io.LimitedReader{R: listener.Unwrap(d.connection.conn), N: int64(d.left)})
	d.left -= int(m)
	if err == nil && d.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	if fromPeer(err) {
		err = d.broken(err)
	}
	return int64(n) + m, err
}

// fromPeer reports whether err of a copy from a connection to a file comes from
// the connection.
func fromPeer(err error) bool {
	for _, e := range []error{io.ErrUnexpectedEOF, os.ErrDeadlineExceeded, os.ErrClosed, net.ErrClosed, syscall.ECONNRESET, syscall.ETIMEDOUT} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
