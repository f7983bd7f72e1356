package channel

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/agent"
	"github.com/wrenn-dev/wrenn/internal/guest/listener"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// connection is one connection of the control channel. One goroutine uses it.
//
// Invariants: between two calls every byte of the earlier ones has been read and
// written; if a call ends within its frames, the connection is closed.
type connection struct {
	agent  *agent.Agent
	server *Server
	conn   net.Conn
	reader *guestwire.Reader
	out    []byte // reused for every frame sent
}

// errHangUp ends a connection without another frame.
var errHangUp = errors.New("the connection of the control channel is out of order")

// lingerLimit is how long a peer that was refused while it sent data may take to
// read the refusal.
const lingerLimit = 2 * time.Second

// serveCall waits up to limit for a call and answers it. It reports whether
// another may follow.
func (c *connection) serveCall(ctx context.Context, limit time.Duration) bool {
	_ = c.conn.SetDeadline(time.Now().Add(limit))
	t, n, err := c.reader.Header()
	if err != nil || n > agent.MaxMessageBytes {
		return false
	}
	if !c.reader.Holds(n) {
		// Not for a call that is here already: Go wakes a process at the time of a
		// deadline that was replaced by a later one, which costs an idle guest much.
		_ = c.conn.SetReadDeadline(time.Now().Add(agent.OpeningTimeLimit))
	}
	raw, left, err := c.reader.Token(n)
	if err != nil {
		return false
	}
	token := string(raw)
	if t == guestwire.Ping {
		return left == 0 && c.send(guestwire.Answer, nil) == nil
	}
	e, err := c.agent.Admit(kindOf(t), token)
	if err != nil {
		// The message is not read: an unauthenticated peer gets no memory for it.
		_ = c.fail(err)
		c.linger()
		return false
	}
	if e != nil {
		defer e.Leave()
	}
	message, err := c.reader.Take(left)
	if err != nil {
		return false
	}
	_ = c.conn.SetDeadline(time.Time{})
	if e == nil {
		return c.finish(c.endEpoch(ctx, t, token, message))
	}
	return c.callIn(ctx, e, t, message)
}

// callIn answers a call until the epoch ends. Then its context ends, and reads
// and writes that wait for the peer fail at once.
func (c *connection) callIn(ctx context.Context, e *agent.Epoch, t guestwire.Type, message []byte) bool {
	ctx, release := e.Bind(ctx, c.cutOff)
	ok := c.finish(c.call(ctx, t, message))
	return release() && ok
}

// cutOff interrupts reads at once and leaves a moment to write the failure.
func (c *connection) cutOff() {
	_ = c.conn.SetReadDeadline(time.Unix(1, 0))
	_ = c.conn.SetWriteDeadline(time.Now().Add(agent.CutOffGrace))
}

func kindOf(t guestwire.Type) agent.CallKind {
	switch t {
	case guestwire.Configure:
		return agent.ConfigureCall
	case guestwire.Quiesce:
		return agent.QuiesceCall
	case guestwire.Release:
		return agent.ReleaseCall
	default:
		return agent.OrdinaryCall
	}
}

// finish sends err to the peer, unless it is nil or errHangUp, and reports whether
// the connection is still in order.
func (c *connection) finish(err error) bool {
	if err == nil {
		return true
	}
	if errors.Is(err, errHangUp) {
		return false
	}
	return c.fail(err) == nil
}

// endEpoch answers the calls that begin and end epochs.
func (c *connection) endEpoch(ctx context.Context, t guestwire.Type, token string, message []byte) error {
	switch t {
	case guestwire.Configure:
		req, err := guestwire.ParseConfigureRequest(message)
		if err != nil {
			return errMessage(err)
		}
		resp, err := c.agent.Configure(ctx, req, token)
		if err != nil {
			return err
		}
		return c.send(guestwire.Answer, func(b []byte) []byte { return guestwire.AppendConfigureResponse(b, resp) })
	case guestwire.Release:
		req, err := guestwire.ParseReleaseRequest(message)
		if err != nil {
			return errMessage(err)
		}
		resp, err := c.agent.Release(ctx, req, token)
		if err != nil {
			return err
		}
		return c.send(guestwire.Answer, func(b []byte) []byte { return guestwire.AppendReleaseResponse(b, resp) })
	default:
		req, err := guestwire.ParseQuiesceRequest(message)
		if err != nil {
			return errMessage(err)
		}
		resp, err := c.agent.Quiesce(ctx, req)
		if err != nil {
			return err
		}
		return c.send(guestwire.Answer, func(b []byte) []byte { return guestwire.AppendQuiesceResponse(b, resp) })
	}
}

// call answers the calls of an epoch.
func (c *connection) call(ctx context.Context, t guestwire.Type, message []byte) error {
	switch t {
	case guestwire.Exec:
		return c.exec(ctx, message)
	case guestwire.Input:
		return c.input(ctx, message)
	case guestwire.Kill:
		return c.kill(message)
	case guestwire.Outcome:
		return c.outcome(ctx, message)
	case guestwire.Process:
		return c.process(ctx, message)
	case guestwire.Attach:
		return c.attach(ctx, message)
	case guestwire.File:
		return c.file(ctx, message)
	case guestwire.Watch:
		return c.watchFiles(ctx, message)
	case guestwire.Pack:
		return c.pack(ctx, message)
	case guestwire.Unpack:
		return c.unpack(ctx, message)
	case guestwire.WriteFile:
		return c.writeFile(ctx, message)
	case guestwire.Dial:
		return c.dial(ctx, message)
	case guestwire.ReadFile:
		return c.readFile(ctx, message)
	case guestwire.Hold:
		return c.hold(ctx, message)
	default:
		return errHangUp
	}
}

func (c *connection) hold(ctx context.Context, message []byte) error {
	req, err := guestwire.ParseHoldRequest(message)
	if err != nil {
		return errMessage(err)
	}
	resp, err := c.agent.Hold(ctx, req)
	if err != nil {
		return err
	}
	return c.send(guestwire.Answer, func(b []byte) []byte { return guestwire.AppendHoldResponse(b, resp) })
}

// errMessage returns the fault of a message that cannot be decoded.
func errMessage(err error) error {
	return fault.Wrap(err, fault.Invalid, "invalid_message", "the message is malformed")
}

// send writes one frame.
func (c *connection) send(t guestwire.Type, encode func([]byte) []byte) error {
	c.out = guestwire.AppendFrame(c.out[:0], t, encode)
	return c.flush()
}

// flush writes out.
func (c *connection) flush() error {
	_, err := c.conn.Write(c.out)
	if cap(c.out) > maxKeptBuffer {
		c.out = nil
	}
	if err != nil {
		return errors.Join(errHangUp, err)
	}
	return nil
}

// maxKeptBuffer is the largest capacity of out, in bytes, that a connection keeps
// between frames.
const maxKeptBuffer = 128 << 10

// fail sends err.
func (c *connection) fail(err error) error {
	f := fault.As(err)
	return c.send(guestwire.Failure, func(b []byte) []byte {
		return guestwire.AppendFailure(b, &guestv1.Failure{Kind: f.Kind.String(), Reason: f.Reason, Message: f.Public})
	})
}

// linger gives the peer time to read the last frame: closing a connection with
// unread data resets it, and the peer would lose the frame.
func (c *connection) linger() {
	half, ok := listener.Unwrap(c.conn).(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(lingerLimit))
	_, _ = io.CopyN(io.Discard, c.conn, agent.MaxMessageBytes)
}

// failAmidData sends err and ends the connection, because the peer is still
// sending data.
func (c *connection) failAmidData(err error) error {
	if c.fail(err) == nil {
		c.linger()
	}
	return errHangUp
}
