package guestclient

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// Bounds on the records of processes that a guest may send. An honest guest stays below
// all of them.
const (
	maxProcesses   = 1024
	maxCommands    = 512
	maxRecordBytes = 2 << 10
	maxOffset      = 1 << 62
	maxExitCode    = 255
	maxSignal      = 64
	// maxAnswerBytes bounds an answer with the records of all processes, and
	// maxCommandBytes those of commands beside them.
	maxAnswerBytes  = maxProcesses * maxRecordBytes
	maxCommandBytes = maxCommands * maxRecordBytes
)

// CallProcess does one operation on the processes with an id. It waits as long as the
// operation does: input for a process that does not read it, and a wait for its end. A
// guest that answers with other processes, or with more than there may be, is
// HostFailed guest_failed. An agent of a version without processes, as in a sandbox that
// was paused before an upgrade, is Unsupported processes_unsupported.
func (c *Client) CallProcess(ctx context.Context, call *guestv1.ProcessCall) (*guestv1.ProcessAnswer, error) {
	answer, err := c.callProcess(ctx, call)
	if fault.ReasonOf(err) == ReasonUnreachable && c.outdated(ctx) {
		return nil, fault.Wrap(err, fault.Unsupported, "processes_unsupported",
			"the agent in the sandbox is of a version without processes; use exec, or create the sandbox anew")
	}
	return answer, err
}

// outdatedTimeout bounds outdated.
const outdatedTimeout = 10 * time.Second

// outdated reports whether the guest answers and knows no processes: an agent hangs up
// at a call that it does not know.
func (c *Client) outdated(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, outdatedTimeout)
	defer cancel()
	if c.Ping(ctx) != nil {
		return false
	}
	list := &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_List{List: &guestv1.ListProcesses{}}}
	_, err := c.callProcess(ctx, list)
	return fault.ReasonOf(err) == ReasonUnreachable
}

func (c *Client) callProcess(ctx context.Context, call *guestv1.ProcessCall) (*guestv1.ProcessAnswer, error) {
	x, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	answer := &guestv1.ProcessAnswer{}
	if err := x.call(guestwire.Process, call); err != nil {
		return nil, err
	}
	if err := x.processes(processBounds(call), answer); err != nil {
		return nil, err
	}
	if !fits(call, answer) {
		return nil, x.fail(errDisorder)
	}
	x.finish(true)
	return answer, nil
}

// processes reads an answer with records of processes that has the bounds b. On error it has
// finished the exchange.
func (x *exchange) processes(b bounds, answer proto.Message) error {
	t, payload, err := x.conn.reader.Frame(b.size)
	switch {
	case err != nil:
		return x.fail(err)
	case t == guestwire.Failure:
		return x.failure(payload)
	case t != guestwire.Answer || !b.hold(payload) || decode(payload, answer) != nil:
		return x.fail(errDisorder)
	}
	return nil
}

// plainProcesses reports whether records may be those of all processes with an id, and limits
// them.
func plainProcesses(records []*guestv1.ProcessRecord) bool {
	return len(records) <= maxProcesses && !slices.ContainsFunc(records, func(p *guestv1.ProcessRecord) bool {
		return p.GetId() == "" || !plainRecord(p)
	})
}

// fits reports whether answer may be one to call, and limits its records.
func fits(call *guestv1.ProcessCall, answer *guestv1.ProcessAnswer) bool {
	id, processes := idOf(call), answer.GetProcesses()
	if !plainProcesses(processes) || id != "" && (len(processes) != 1 || processes[0].GetId() != id) {
		return false
	}
	commands := answer.GetCommands()
	if len(commands) > maxCommands || len(commands) > 0 && !call.GetList().GetCommands() {
		return false
	}
	for _, p := range commands {
		if p.GetId() != "" || !plainRecord(p) {
			return false
		}
	}
	return true
}

// idOf returns the id of the process that call is about, or "" for a list.
func idOf(call *guestv1.ProcessCall) string {
	switch op := call.GetOperation().(type) {
	case *guestv1.ProcessCall_Start:
		return op.Start.GetId()
	case *guestv1.ProcessCall_Get:
		return op.Get.GetId()
	case *guestv1.ProcessCall_Input:
		return op.Input.GetId()
	case *guestv1.ProcessCall_Signal:
		return op.Signal.GetId()
	case *guestv1.ProcessCall_Resize:
		return op.Resize.GetId()
	case *guestv1.ProcessCall_Acknowledge:
		return op.Acknowledge.GetId()
	}
	return ""
}

// plainRecord reports whether p may come from an honest guest, and limits the numbers
// that have a range.
func plainRecord(p *guestv1.ProcessRecord) bool {
	if proto.Size(p) > maxRecordBytes || p.GetOutputStart() > p.GetOutputEnd() ||
		max(p.GetOutputEnd(), p.GetAcknowledged(), p.GetDropped()) > maxOffset {
		return false
	}
	p.ExitCode, p.Signal = min(p.GetExitCode(), maxExitCode), min(p.GetSignal(), maxSignal)
	return true
}

// Attachment receives the output of one process. One goroutine uses it; Close may be
// called from any.
//
// Invariant: the received pieces follow each other without a gap, so that a caller that
// counts them knows which bytes it has.
type Attachment struct {
	x      *exchange
	cancel context.CancelFunc
	id     string
	begun  time.Time
	next   int64 // the offset of the next piece; -1 before the first of a reader at the end
	named  bool  // the first event has come
	ended  bool
	empty  int // events without content
}

// Attach reads the output of a process from an offset on. The end of ctx ends the
// stream and not the process. A refusal of the guest is returned by the first Receive.
func (c *Client) Attach(ctx context.Context, call *guestv1.AttachCall) (*Attachment, error) {
	ctx, cancel := context.WithCancel(ctx)
	x, err := c.open(ctx)
	if err == nil {
		err = x.call(guestwire.Attach, call)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return &Attachment{x: x, cancel: cancel, id: call.GetId(), begun: time.Now(), next: max(call.GetOffset(), -1)}, nil
}

// Receive returns the next event: the process, pieces of output, and the process again
// with its end, after which it returns io.EOF. A guest that breaks the order of output
// is HostFailed guest_failed.
func (a *Attachment) Receive() (*guestv1.AttachEvent, error) {
	for !a.ended {
		t, payload, err := a.x.conn.reader.Frame(maxMessageBytes)
		switch {
		case err != nil:
			return nil, a.x.fail(unexpectedEOF(err))
		case t == guestwire.Failure:
			return nil, a.x.failure(payload)
		}
		event := &guestv1.AttachEvent{}
		if t != guestwire.Event || decode(payload, event) != nil {
			return nil, a.x.fail(errDisorder)
		}
		useful, err := a.check(event)
		if err != nil {
			return nil, a.x.fail(err)
		}
		if useful {
			return event, nil
		}
		if a.empty++; a.empty > emptyBurst+int(time.Since(a.begun).Seconds()) {
			return nil, a.x.fail(errDisorder)
		}
	}
	return nil, io.EOF
}

// check holds event against the protocol. It reports whether the event has content.
func (a *Attachment) check(event *guestv1.AttachEvent) (useful bool, err error) {
	switch process, piece := event.GetProcess(), event.GetPiece(); {
	case process != nil && (piece != nil || a.id == "" || process.GetId() != a.id || !plainRecord(process)):
		return false, errDisorder
	case process != nil && !a.named:
		a.named = true
		return true, nil
	case process != nil:
		if process.GetEndedUnixNano() == 0 {
			return false, errDisorder
		}
		a.ended = true
		a.x.finish(true)
		return true, nil
	case piece == nil:
		return false, nil
	default:
		return true, a.follow(piece)
	}
}

// follow checks that piece comes next.
func (a *Attachment) follow(p *guestv1.Piece) error {
	size, dropped := p.GetBytes(), p.GetKind() == guestv1.Piece_KIND_DROPPED
	switch {
	case !a.named, size == 0, size > maxOffset, p.GetOffset() > maxOffset,
		p.GetKind() == guestv1.Piece_KIND_UNSPECIFIED, p.GetKind() > guestv1.Piece_KIND_DROPPED, p.GetKind() < 0,
		a.next >= 0 && p.GetOffset() != uint64(a.next),
		dropped && len(p.GetData()) > 0, !dropped && uint64(len(p.GetData())) != size:
		return errDisorder
	}
	a.next = int64(p.GetOffset() + size)
	return nil
}

// Close ends the stream. The process continues. It is idempotent.
func (a *Attachment) Close() error {
	a.x.finish(false)
	a.cancel()
	return nil
}

// Each calls send with every event until the end of the process, which is the return of
// nil, or until an error.
func (a *Attachment) Each(send func(*guestv1.AttachEvent) error) error {
	for {
		event, err := a.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = send(event)
		}
		if err != nil {
			return err
		}
	}
}
