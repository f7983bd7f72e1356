package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// channel is one connection of the lean channel. It is for one goroutine.
//
// Invariants: between two calls nothing of an earlier one is unread or
// unwritten; once a call has left the stream of frames in doubt, the connection
// is closed.
type channel struct {
	server *Server
	conn   net.Conn
	reader *guestwire.Reader
	out    []byte // reused for every frame sent
}

// errHangUp ends a connection about which there is nothing more to say.
var errHangUp = errors.New("the channel's connection is not in order")

// lingerLimit is how long a peer that was refused in the midst of its data may
// take to read that.
const lingerLimit = 2 * time.Second

// serveCall waits up to patience for a call and answers it. It reports whether
// another may follow.
func (c *channel) serveCall(ctx context.Context, patience time.Duration) bool {
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	t, n, err := c.reader.Header()
	if err != nil || n > maxMessageBytes {
		return false
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(headerTimeLimit))
	raw, left, err := c.reader.Token(n)
	if err != nil {
		return false
	}
	token := string(raw)
	if t == guestwire.Ping {
		return left == 0 && c.send(guestwire.Answer, nil) == nil
	}
	e, err := c.server.admit(claimOfFrame(t), token)
	if err != nil {
		// The message is not read: the peer has no right to make us keep it.
		_ = c.fail(err)
		c.linger()
		return false
	}
	if e != nil {
		defer e.leave()
	}
	message, err := c.reader.Take(left)
	if err != nil {
		return false
	}
	_ = c.conn.SetDeadline(time.Time{})
	if e == nil {
		return c.settleCall(c.endEpoch(ctx, t, token, message))
	}
	return c.callIn(ctx, e, t, message)
}

// callIn answers a call until the epoch ends. Then its context is cut off, and
// reads and writes that wait for the peer fail at once.
func (c *channel) callIn(ctx context.Context, e *epoch, t guestwire.Type, message []byte) bool {
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, epochKey{}, e))
	defer cancel(nil)
	stop := context.AfterFunc(e.ctx, func() {
		cancel(context.Cause(e.ctx))
		_ = c.conn.SetReadDeadline(time.Unix(1, 0))
		_ = c.conn.SetWriteDeadline(time.Now().Add(sealGrace))
	})
	ok := c.settleCall(c.call(ctx, t, message))
	return stop() && ok
}

func claimOfFrame(t guestwire.Type) claim {
	switch t {
	case guestwire.Configure:
		return claimConfigure
	case guestwire.Quiesce:
		return claimQuiesce
	case guestwire.Release:
		return claimRelease
	default:
		return claimCall
	}
}

// settleCall tells the peer of err, if it is one to tell, and reports whether
// the connection is still in order.
func (c *channel) settleCall(err error) bool {
	if err == nil {
		return true
	}
	if errors.Is(err, errHangUp) {
		return false
	}
	return c.fail(err) == nil
}

// endEpoch answers the calls that begin and end epochs.
func (c *channel) endEpoch(ctx context.Context, t guestwire.Type, token string, message []byte) error {
	switch t {
	case guestwire.Configure:
		req, err := guestwire.ParseConfigureRequest(message)
		if err != nil {
			return errMessage(err)
		}
		resp, err := c.server.configure(ctx, req, token)
		if err != nil {
			return err
		}
		return c.send(guestwire.Answer, func(b []byte) []byte { return guestwire.AppendConfigureResponse(b, resp) })
	case guestwire.Release:
		req, err := guestwire.ParseReleaseRequest(message)
		if err != nil {
			return errMessage(err)
		}
		resp, err := c.server.release(ctx, req, token)
		if err != nil {
			return err
		}
		return c.send(guestwire.Answer, func(b []byte) []byte { return guestwire.AppendReleaseResponse(b, resp) })
	default:
		req, err := guestwire.ParseQuiesceRequest(message)
		if err != nil {
			return errMessage(err)
		}
		resp, err := c.server.quiesce(ctx, req)
		if err != nil {
			return err
		}
		return c.send(guestwire.Answer, func(b []byte) []byte { return guestwire.AppendQuiesceResponse(b, resp) })
	}
}

// call answers the calls of an epoch.
func (c *channel) call(ctx context.Context, t guestwire.Type, message []byte) error {
	switch t {
	case guestwire.Exec:
		return c.exec(ctx, message)
	case guestwire.Input:
		return c.input(ctx, message)
	case guestwire.Kill:
		return c.kill(message)
	case guestwire.Outcome:
		return c.outcome(ctx, message)
	case guestwire.WriteFile:
		return c.writeFile(ctx, message)
	case guestwire.ReadFile:
		return c.readFile(ctx, message)
	case guestwire.Hold:
		if _, err := c.server.hold(ctx); err != nil {
			return err
		}
		return c.send(guestwire.Answer, nil)
	default:
		return errHangUp
	}
}

// errMessage is for a frame whose message cannot be read.
func errMessage(err error) error {
	return fault.Wrap(err, fault.Invalid, "invalid_message", "the message is malformed")
}

// send writes one frame.
func (c *channel) send(t guestwire.Type, encode func([]byte) []byte) error {
	c.out = guestwire.AppendFrame(c.out[:0], t, encode)
	return c.flush()
}

// flush writes what is in out.
func (c *channel) flush() error {
	_, err := c.conn.Write(c.out)
	if cap(c.out) > maxKept {
		c.out = nil
	}
	if err != nil {
		return errors.Join(errHangUp, err)
	}
	return nil
}

// maxKept is how much room for frames a connection keeps.
const maxKept = 128 << 10

// fail sends err.
func (c *channel) fail(err error) error {
	f := fault.As(err)
	return c.send(guestwire.Failure, func(b []byte) []byte {
		return guestwire.AppendFailure(b, &guestv1.Failure{Kind: f.Kind.String(), Reason: f.Reason, Message: f.Public})
	})
}

// linger lets the peer read what was sent last: closing a connection that holds
// unread data would take it away from them.
func (c *channel) linger() {
	half, ok := bare(c.conn).(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(lingerLimit))
	_, _ = io.CopyN(io.Discard, c.conn, maxMessageBytes)
}

// failAmidData sends err and ends the connection, on which more data is on its
// way.
func (c *channel) failAmidData(err error) error {
	if c.fail(err) == nil {
		c.linger()
	}
	return errHangUp
}
