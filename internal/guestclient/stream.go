package guestclient

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

// timeoutGrace is the time after a command's timeout in which the guest must report
// the end. Output written until then still has to arrive.
const timeoutGrace = 30 * time.Second

// maxTimeout is the longest timeout that the guest accepts: ten digits of
// milliseconds.
const maxTimeout = 9_999_999_999 * time.Millisecond

// StartOptions are the options of Start that are not part of a StartRequest.
type StartOptions struct {
	// User is the user of the command; empty is the guest's default user.
	User string
	// Timeout is the command's lifetime, enforced in the guest. Zero is none.
	Timeout time.Duration
	// Unrecorded keeps the command out of the guest's records of commands.
	Unrecorded bool
}

// Stream receives the events of one command. One goroutine uses it; Close may be
// called from any.
type Stream struct {
	cancel  context.CancelCauseFunc
	timer   *time.Timer // nil without a timeout
	begun   time.Time
	timeout time.Duration // zero is none
	x       *exchange
	client  *Client
	ticket  uint64 // not 0; see Outcome
	// started and ended are set when the event of that name has been received.
	started, ended bool
	// empty is the number of events without content that have been received.
	empty int
}

// emptyBurst is the number of events without content, such as keepalives, that a
// guest may send at any time, beside one for each second of the stream. An honest
// guest sends one in 90 seconds; each costs the host more than the guest.
const emptyBurst = 100

// errNoEnd is the failure of a command whose end the guest has not reported in time
// after its timeout.
var errNoEnd = fault.New(fault.Timeout, ReasonUnresponsive,
	"the sandbox did not say how the command ended, although its timeout has passed; it may still run")

// Start runs a command. The end of ctx ends the stream but not the command (see
// Kill). A refusal of the guest is returned by the first Receive.
func (c *Client) Start(ctx context.Context, req *process.StartRequest, opt StartOptions) (*Stream, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &Stream{cancel: cancel, begun: time.Now(), client: c, ticket: rand.Uint64() | 1}
	call := &guestv1.ExecCall{Start: req, User: opt.User, Ticket: s.ticket, Unrecorded: opt.Unrecorded}
	if opt.Timeout > 0 {
		timeout := min(opt.Timeout, maxTimeout)
		call.TimeoutMs = uint64(max(timeout.Milliseconds(), 1))
		s.timeout = timeout
		s.timer = time.AfterFunc(timeout+timeoutGrace, func() { cancel(errNoEnd) })
	}
	var err error
	if s.x, err = c.open(ctx); err == nil {
		err = s.x.call(guestwire.Exec, call)
	}
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// Receive returns the next event: start, output, end. After the end it returns
// io.EOF. A second start event, or a flood of events without content, is a failure. A
// command killed at its timeout is Timeout exec_timeout, after its output.
func (s *Stream) Receive() (*process.ProcessEvent, error) {
	for !s.ended {
		t, payload, err := s.x.conn.reader.Frame(maxMessageBytes)
		switch {
		case err != nil:
			return nil, s.x.fail(unexpectedEOF(err))
		case t == guestwire.Failure:
			return nil, s.failure(payload)
		case t != guestwire.Event:
			return nil, s.x.fail(errDisorder)
		}
		event := &process.ProcessEvent{}
		if err := decode(payload, event); err != nil {
			return nil, s.x.fail(errDisorder)
		}
		switch e := event.GetEvent().(type) {
		case *process.ProcessEvent_Start:
			if s.started {
				return nil, s.x.fail(errDisorder)
			}
			s.started = true
			return event, nil
		case *process.ProcessEvent_Data:
			if outputSize(e.Data) > 0 {
				return event, nil
			}
		case *process.ProcessEvent_End:
			s.ended = true
			s.x.finish(true)
			plainEnd(e.End)
			return event, nil
		}
		if s.empty++; s.empty > emptyBurst+int(time.Since(s.begun).Seconds()) {
			return nil, s.x.fail(errDisorder)
		}
	}
	return nil, io.EOF
}

// decode decodes a message of the guest without its unknown fields, so that the host
// passes on only fields that it knows.
func decode(payload []byte, into proto.Message) error {
	return proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(payload, into)
}

func outputSize(d *process.ProcessEvent_DataEvent) int {
	return len(d.GetStdout()) + len(d.GetStderr()) + len(d.GetPty())
}

// plainEnd bounds and cleans the texts of an end event.
func plainEnd(end *process.ProcessEvent_EndEvent) {
	if end == nil {
		return
	}
	end.Status = untrusted.Line(end.GetStatus(), maxPublicBytes)
	if end.Error != nil {
		end.Error = proto.String(untrusted.Line(end.GetError(), maxPublicBytes))
	}
}

// unexpectedEOF returns err, or io.ErrUnexpectedEOF for io.EOF, because Receive
// returns io.EOF only after the command's end.
func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Outcome returns the end event of a command whose stream broke because the guest's
// agent died. The next agent knows how the command ended; it kills one that still
// runs, because its output is lost. Outcome retries until ctx ends. NotFound means
// that no agent that died had started the command.
func (s *Stream) Outcome(ctx context.Context) (*process.ProcessEvent, error) {
	return s.client.Outcome(ctx, s.ticket)
}

// Outcome is Stream.Outcome for the command that was started with ticket.
func (c *Client) Outcome(ctx context.Context, ticket uint64) (*process.ProcessEvent, error) {
	x, err := c.reach(ctx, restoredDialTimeout)
	if err != nil {
		return nil, err
	}
	if err := x.call(guestwire.Outcome, &guestv1.OutcomeCall{Ticket: ticket}); err != nil {
		return nil, err
	}
	t, payload, err := x.conn.reader.Frame(maxMessageBytes)
	switch {
	case err != nil:
		return nil, x.fail(err)
	case t == guestwire.Failure:
		return nil, x.failure(payload)
	}
	event := &process.ProcessEvent{}
	if t != guestwire.Event || decode(payload, event) != nil || event.GetEnd() == nil {
		return nil, x.fail(errDisorder)
	}
	plainEnd(event.GetEnd())
	x.finish(true)
	return event, nil
}

// clockTolerance is the fraction, 1/20, by which a guest's clock may run faster than
// the host's.
const clockTolerance = 20

// failure ends the stream and returns the failure that the guest reports. The guest
// may report an expired timeout only if the host's own clock agrees.
func (s *Stream) failure(payload []byte) error {
	m := &guestv1.Failure{}
	if len(payload) > maxErrorBytes || proto.Unmarshal(payload, m) != nil || m.GetReason() != ReasonExecTimeout {
		return s.x.failure(payload)
	}
	s.x.finish(true)
	if s.timeout == 0 || time.Since(s.begun) < s.timeout-s.timeout/clockTolerance {
		return fault.New(fault.HostFailed, "guest_failed", "the sandbox reported the end of the command's timeout too early")
	}
	return fault.New(fault.Timeout, ReasonExecTimeout, "the command ran longer than its timeout of %s and was killed", s.timeout)
}

// Close ends the stream. The command continues. It is idempotent.
func (s *Stream) Close() error {
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.x != nil {
		s.x.finish(false)
	}
	s.cancel(context.Canceled)
	return nil
}
