package guestclient

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// refusalTimeout bounds the wait for the guest's reason after a write to it has
// failed.
const refusalTimeout = time.Second

// transferBuffers holds the buffers of the pieces in which content is sent.
var transferBuffers = sync.Pool{New: func() any { return new([bufferBytes]byte) }}

// sending is a transfer of data to the guest. An answer before the end of the data
// is a refusal, after which the guest reads no more.
type sending struct {
	x        *exchange
	answered chan struct{}
	over     atomic.Bool // the guest has answered, so that writes must fail
	result   error       // of the transfer; valid once answered is closed
}

// send sends the content of r and returns its size in bytes once the guest has
// confirmed it. It finishes the exchange. Errors of r are returned unchanged.
func (x *exchange) send(r io.Reader) (int64, error) {
	s := &sending{x: x, answered: make(chan struct{})}
	go func() {
		defer close(s.answered)
		s.result = fault.Caught(func() error { return s.outcome(x.conn.reader.Frame(maxMessageBytes)) })
		s.over.Store(true)
		// The guest reads no more: end a write that waits for it.
		_ = x.conn.SetWriteDeadline(time.Unix(1, 0))
	}()
	n, err := s.copy(r)
	if err != nil {
		x.finish(false) // after an error of r the guest still waits for data
		<-s.answered
		return 0, err
	}
	<-s.answered
	if s.result != nil {
		x.finish(false)
		return 0, s.result
	}
	x.finish(x.conn.SetWriteDeadline(time.Time{}) == nil)
	return n, nil
}

// outcome returns the result of the transfer from the guest's answer.
func (s *sending) outcome(t guestwire.Type, payload []byte, err error) error {
	m := &guestv1.Failure{}
	switch {
	case err != nil:
		return s.x.client.broken(s.x.ctx, err)
	case t == guestwire.Answer:
		return nil
	case t != guestwire.Failure || len(payload) > maxErrorBytes || proto.Unmarshal(payload, m) != nil:
		return s.x.client.broken(s.x.ctx, errDisorder)
	}
	return failureFault(m)
}

// copy sends r and the end of the data.
func (s *sending) copy(r io.Reader) (n int64, err error) {
	buf := transferBuffers.Get().(*[bufferBytes]byte)
	defer transferBuffers.Put(buf)
	for {
		size, readErr := r.Read(buf[guestwire.HeaderBytes:])
		if size > 0 {
			guestwire.AppendHeader(buf[:0], guestwire.Data, size)
			if err := s.write(buf[:guestwire.HeaderBytes+size]); err != nil {
				return n, err
			}
			n += int64(size)
		}
		switch {
		case errors.Is(readErr, io.EOF):
			return n, s.write(guestwire.AppendHeader(buf[:0], guestwire.End, 0))
		case readErr != nil:
			return n, readErr
		}
	}
}

// write sends b within the client's stall limit. If that fails, it prefers the
// guest's own reason.
func (s *sending) write(b []byte) error {
	_ = s.x.conn.SetWriteDeadline(time.Now().Add(s.x.client.stall))
	if s.over.Load() || s.x.ctx.Err() != nil {
		// Either sets a deadline in the past. The line above may have replaced it.
		_ = s.x.conn.SetWriteDeadline(time.Unix(1, 0))
	}
	_, err := s.x.conn.Write(b)
	if err == nil {
		return nil
	}
	stalled := !s.over.Load() && s.x.ctx.Err() == nil && errors.Is(err, os.ErrDeadlineExceeded)
	if s.x.ctx.Err() == nil {
		_ = s.x.conn.SetReadDeadline(time.Now().Add(refusalTimeout))
	}
	<-s.answered
	switch {
	case stalled && (s.result == nil || fault.ReasonOf(s.result) == faultrpc.ReasonUnreachable):
		return errStalled
	case s.result != nil:
		return s.result
	}
	return s.x.client.broken(s.x.ctx, errDisorder)
}
