package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// bufferBytes is the size of the buffer of each direction.
const bufferBytes = 32 << 10

// Stream is a connection whose directions end one by one. *Conn, *net.TCPConn and
// *net.UnixConn are streams.
type Stream interface {
	net.Conn
	CloseWrite() error
}

// Carry copies bytes between a and b in both directions until both have ended, and
// closes both. If ctx ends or either breaks, both are aborted: their peers see no
// clean end. It calls moved whenever bytes have moved, from two goroutines. The error
// is nil after two clean ends, the cause of ctx, or the first error.
func Carry(ctx context.Context, a, b Stream, moved func()) error {
	return CarryBuffered(ctx, a, b, moved, usual)
}

// CarryBuffered is Carry with the memory of buffers.
func CarryBuffered(ctx context.Context, a, b Stream, moved func(), buffers *Buffers) error {
	var once sync.Once
	var first error
	abort := func(err error) {
		once.Do(func() {
			first = err
			Abort(a)
			Abort(b)
		})
	}
	stop := context.AfterFunc(ctx, func() { abort(context.Cause(ctx)) })
	var directions sync.WaitGroup
	for _, d := range [2]struct{ to, from Stream }{{a, b}, {b, a}} {
		directions.Go(func() {
			if err := fault.Caught(func() error { return direction(d.to, d.from, moved, buffers) }); err != nil {
				abort(err)
			}
		})
	}
	directions.Wait()
	stop()
	once.Do(func() {
		_ = a.Close()
		_ = b.Close()
	})
	return first
}

// direction copies one direction to its end.
func direction(to, from Stream, moved func(), buffers *Buffers) error {
	buf := buffers.new()
	defer buf.release()
	for {
		piece := buf.bytes()
		n, err := from.Read(piece)
		if n > 0 {
			moved()
			if _, err := to.Write(piece[:n]); err != nil {
				return err
			}
			moved()
			buf.adapt(n)
		}
		switch {
		case errors.Is(err, io.EOF):
			return endWrite(to)
		case err != nil:
			return err
		}
	}
}

// endWrite ends the direction to a stream. The other direction may have closed it
// already, since a peer that has said everything may be gone.
func endWrite(to Stream) error {
	if err := to.CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.ENOTCONN) {
		return err
	}
	return nil
}

// Abort closes c such that its peer cannot take it for a clean end, where the
// protocol of c can say so: TCP sends RST, a tunnel leaves out the end frame.
func Abort(c net.Conn) {
	if t, ok := c.(interface{ SetLinger(sec int) error }); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}
