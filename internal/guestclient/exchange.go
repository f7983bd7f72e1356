package guestclient

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// exchange is one call on a connection. finish ends it, once.
//
// Invariant: when ctx ends, reads and writes of the connection fail at once, and
// the connection is not used again.
type exchange struct {
	client *Client
	ctx    context.Context
	conn   *conn
	stop   func() bool // ends the watch over ctx
	over   atomic.Bool
}

func (c *Client) exchange(ctx context.Context, on *conn) *exchange {
	x := &exchange{client: c, ctx: ctx, conn: on}
	x.stop = context.AfterFunc(ctx, func() { _ = on.SetDeadline(time.Unix(1, 0)) })
	return x
}

// detach ends the exchange without closing or storing the connection. It reports
// false when ctx has ended meanwhile or the exchange has been finished.
func (x *exchange) detach() bool {
	return x.over.CompareAndSwap(false, true) && x.stop()
}

// finish returns the connection to the client. It is reused if whole is set, which
// means that both sides have sent all frames of the call, and no more bytes have
// arrived. Later calls have no effect.
func (x *exchange) finish(whole bool) {
	if !x.over.CompareAndSwap(false, true) {
		return
	}
	if x.stop() && whole && !x.conn.reader.Pending() && x.unlimit() {
		x.client.keep(x.conn)
	} else {
		x.client.discard(x.conn)
	}
}

// limit makes each read of the exchange fail with errStalled after the client's
// stall limit.
func (x *exchange) limit() { x.conn.limited = x }

// unlimit ends limit while no goroutine reads. It reports whether the connection is
// still usable.
func (x *exchange) unlimit() bool {
	if x.conn.limited == nil {
		return true
	}
	x.conn.limited = nil
	return x.conn.SetReadDeadline(time.Time{}) == nil
}

// hangUpTimeout bounds hangUp.
const hangUpTimeout = time.Second

// hangUp ends the exchange and returns once the guest has closed its end too, so
// that a snapshot of the guest contains no open connection, on which each clone
// would resend unacknowledged bytes.
func (x *exchange) hangUp() {
	defer x.finish(false)
	half, ok := x.conn.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = x.conn.SetReadDeadline(time.Now().Add(hangUpTimeout))
	_, _ = x.conn.Read(make([]byte, 1))
}

// fail finishes the exchange and classifies err.
func (x *exchange) fail(err error) error {
	err = x.client.broken(x.ctx, err)
	x.finish(false)
	return err
}

// call sends the frame of a call. A nil message is empty.
func (x *exchange) call(t guestwire.Type, message proto.Message) error {
	var body []byte
	if message != nil {
		var err error
		if body, err = proto.Marshal(message); err != nil {
			x.finish(true)
			return fault.Wrap(err, fault.Invalid, "invalid_message", "names, arguments and environment must be valid UTF-8")
		}
	}
	x.client.mu.Lock()
	token := x.client.token
	x.client.mu.Unlock()
	frame, err := guestwire.AppendCall(x.conn.out[:0], t, token, body)
	if err != nil {
		return x.fail(err)
	}
	if cap(frame) <= bufferBytes {
		x.conn.out = frame
	}
	if _, err := x.conn.Write(frame); err != nil {
		return x.fail(err)
	}
	return nil
}

// answer decodes the answer into resp, which is nil for an answer without a message.
// After a Failure frame the connection is still in order.
func (x *exchange) answer(resp proto.Message) error {
	t, payload, err := x.conn.reader.Frame(maxMessageBytes)
	if err != nil {
		return x.fail(err)
	}
	switch {
	case t == guestwire.Failure:
		return x.failure(payload)
	case t != guestwire.Answer:
		return x.fail(errDisorder)
	case resp == nil:
		return nil
	}
	if err := proto.Unmarshal(payload, resp); err != nil {
		return x.fail(errDisorder)
	}
	return nil
}

// failure finishes the exchange and returns the failure that the guest reports.
func (x *exchange) failure(payload []byte) error {
	m := &guestv1.Failure{}
	if len(payload) > maxErrorBytes || proto.Unmarshal(payload, m) != nil {
		return x.fail(errDisorder)
	}
	x.finish(true)
	return failureFault(m)
}
