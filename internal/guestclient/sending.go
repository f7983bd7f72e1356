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

// refusalPatience is how long the guest's reason is waited for after a write to
// it has failed.
const refusalPatience = time.Second

// transferBuffers are the pieces in which content is sent.
var transferBuffers = sync.Pool{New: func() any { return new([bufferBytes]byte) }}

// sending is data on its way to the guest. An answer before its end is a
// refusal: nobody reads the rest.
type sending struct {
	x        *exchange
	answered chan struct{}
	over     atomic.Bool // the guest has answered: writes are to fail
	verdict  error       // valid once answered is closed
}

// send sends all that r yields and returns how much that was, once the guest
// has confirmed it. The exchange is over then. An error of r comes back as it
// is.
func (x *exchange) send(r io.Reader) (int64, error) {
	s := &sending{x: x, answered: make(chan struct{})}
	go func() {
		defer close(s.answered)
		s.verdict = fault.Caught(func() error { return s.judge(x.conn.reader.Frame(maxMessageBytes)) })
		s.over.Store(true)
		// A write that waits for the guest to read waits in vain.
		_ = x.conn.SetWriteDeadline(time.Unix(1, 0))
	}()
	n, err := s.copy(r)
	if err != nil {
		x.finish(false) // where it was the reader's error, the guest still listens
		<-s.answered
		return 0, err
	}
	<-s.answered
	if s.verdict != nil {
		x.finish(false)
		return 0, s.verdict
	}
	x.finish(x.conn.SetWriteDeadline(time.Time{}) == nil)
	return n, nil
}

// judge says what the answer to the data means.
func (s *sending) judge(t guestwire.Type, payload []byte, err error) error {
	m := &guestv1.Failure{}
	switch {
	case err != nil:
		return s.x.client.broken(s.x.ctx, err)
	case t == guestwire.Answer:
		return nil
	case t != guestwire.Failure || len(payload) > maxErrorBytes || proto.Unmarshal(payload, m) != nil:
		return s.x.client.broken(s.x.ctx, errDisorder)
	}
	return judgeFailure(m)
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

// write sends b, for which it has the client's stall limit. Where that fails,
// the guest's own reason is worth more.
func (s *sending) write(b []byte) error {
	_ = s.x.conn.SetWriteDeadline(time.Now().Add(s.x.client.stall))
	if s.over.Load() || s.x.ctx.Err() != nil {
		// Both set a deadline in the past, which this one may have replaced.
		_ = s.x.conn.SetWriteDeadline(time.Unix(1, 0))
	}
	_, err := s.x.conn.Write(b)
	if err == nil {
		return nil
	}
	stalled := !s.over.Load() && s.x.ctx.Err() == nil && errors.Is(err, os.ErrDeadlineExceeded)
	if s.x.ctx.Err() == nil {
		_ = s.x.conn.SetReadDeadline(time.Now().Add(refusalPatience))
	}
	<-s.answered
	switch {
	case stalled && (s.verdict == nil || fault.ReasonOf(s.verdict) == faultrpc.ReasonUnreachable):
		return errStalled
	case s.verdict != nil:
		return s.verdict
	}
	return s.x.client.broken(s.x.ctx, errDisorder)
}
