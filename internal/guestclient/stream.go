package guestclient

import (
	"context"
	"io"
	"strconv"
	"time"

	"connectrpc.com/connect"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// timeoutGrace is how much longer than a command's timeout the guest's answer
// is waited for: output written until then still has to arrive.
const timeoutGrace = 30 * time.Second

// maxTimeout is what ten digits of milliseconds can say.
const maxTimeout = 9_999_999_999 * time.Millisecond

// StartOptions are what a StartRequest cannot carry.
type StartOptions struct {
	// User runs the command; empty is the guest's default user.
	User string
	// Timeout is the command's lifetime, enforced in the guest. Zero is none.
	Timeout time.Duration
}

// Stream is the output of one command. It is for one goroutine; Close may be
// called from any.
type Stream struct {
	client *Client
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer // nil without a timeout
	from   *connect.ServerStreamForClient[process.StartResponse]
	ended  bool
}

var errExecTimeout = fault.New(fault.Timeout, ReasonExecTimeout, "the command ran longer than its timeout and was killed")

// Start runs a command. When ctx ends, so does the stream, but not the
// command: see Kill.
func (c *Client) Start(ctx context.Context, req *process.StartRequest, opt StartOptions) (*Stream, error) {
	s := &Stream{client: c}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	lifetime := ""
	if opt.Timeout > 0 {
		timeout := min(opt.Timeout, maxTimeout)
		lifetime = strconv.FormatInt(max(timeout.Milliseconds(), 1), 10)
		s.timer = time.AfterFunc(timeout+timeoutGrace, func() { s.cancel(errExecTimeout) })
	}
	creq := connect.NewRequest(req)
	if opt.User != "" {
		creq.Header().Set("Authorization", basicAuth(opt.User))
	}
	from, err := c.process.Start(context.WithValue(s.ctx, lifetimeKey{}, lifetime), creq)
	if err != nil {
		err = c.fault(s.ctx, err)
		_ = s.Close()
		return nil, err
	}
	s.from = from
	return s, nil
}

// Receive returns the next event: start, output, end. After end comes io.EOF.
// A command killed for its timeout is Timeout with reason exec_timeout, after
// the output it gave.
func (s *Stream) Receive() (*process.ProcessEvent, error) {
	for s.from.Receive() {
		event := s.from.Msg().GetEvent()
		switch event.GetEvent().(type) {
		case *process.ProcessEvent_Start, *process.ProcessEvent_Data:
			return event, nil
		case *process.ProcessEvent_End:
			s.ended = true
			return event, nil
		}
	}
	if err := s.from.Err(); err != nil {
		return nil, s.client.fault(s.ctx, err)
	}
	if !s.ended {
		return nil, judge(nil, fault.Internal, "guest_failed", "the sandbox ended the stream without an exit status")
	}
	return nil, io.EOF
}

// Close ends the stream. The command goes on. It is idempotent.
func (s *Stream) Close() error {
	if s.timer != nil {
		s.timer.Stop()
	}
	s.cancel(context.Canceled)
	if s.from != nil {
		_ = s.from.Close()
	}
	return nil
}
