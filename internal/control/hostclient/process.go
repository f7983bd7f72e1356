package hostclient

import (
	"context"
	"syscall"
	"time"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/api/gen/process"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// CallProcess implements control.Host.
func (c *Client) CallProcess(ctx context.Context, ref sandbox.Ref, call control.ProcessCall) ([]control.Process, error) {
	req := &hostv1.CallProcessRequest{Ref: refToProto(ref), Call: processCall(call)}
	if start, ok := call.(control.ProcessStart); ok && start.Again != nil {
		req.StartAgain = &hostv1.StartAgain{Ready: start.Again.Ready, ReadyTimeoutSec: uint32(start.Again.Timeout / time.Second)}
	}
	res, err := c.rpc.CallProcess(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, faultOf(ctx, err)
	}
	var out []control.Process
	for _, p := range res.Msg.GetAnswer().GetProcesses() {
		out = append(out, processOf(p))
	}
	list, isList := call.(control.ProcessList)
	if list.Commands {
		for _, p := range res.Msg.GetAnswer().GetCommands() {
			out = append(out, processOf(p))
		}
	}
	if !isList && len(out) != 1 {
		return nil, broken("the process is missing")
	}
	return out, nil
}

// processCall returns call as a message.
func processCall(call control.ProcessCall) *guestv1.ProcessCall {
	switch c := call.(type) {
	case control.ProcessStart:
		return &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Start{Start: startProcess(c)}}
	case control.ProcessGet:
		get := &guestv1.GetProcess{Id: string(c.ID), WaitMs: uint32(c.Wait.Milliseconds())}
		return &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Get{Get: get}}
	case control.ProcessInput:
		in := &guestv1.WriteInput{Id: string(c.ID), Data: c.Data, Close: c.Close}
		return &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Input{Input: in}}
	case control.ProcessSignal:
		sig := &guestv1.SignalProcess{Id: string(c.ID), Signal: uint32(c.Number), All: c.All}
		return &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Signal{Signal: sig}}
	case control.ProcessResize:
		size := &guestv1.ResizeTerminal{Id: string(c.ID), Cols: uint32(c.Size.Cols), Rows: uint32(c.Size.Rows)}
		return &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Resize{Resize: size}}
	case control.ProcessAck:
		ack := &guestv1.Acknowledge{Id: string(c.ID), Offset: uint64(max(c.Offset, 0))}
		return &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Acknowledge{Acknowledge: ack}}
	default:
		list, _ := call.(control.ProcessList)
		return &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_List{List: &guestv1.ListProcesses{Passive: list.Passive, Commands: list.Commands}}}
	}
}

func startProcess(s control.ProcessStart) *guestv1.StartProcess {
	e := s.Command
	p := &process.ProcessConfig{Cmd: e.Cmd, Args: e.Args, Envs: e.Env}
	if e.Cwd != "" {
		p.Cwd = &e.Cwd
	}
	start := &process.StartRequest{Process: p, Stdin: &s.Stdin}
	if t := s.Terminal; t != nil {
		start.Pty = &process.PTY{Size: &process.PTY_Size{Cols: uint32(t.Cols), Rows: uint32(t.Rows)}}
	}
	return &guestv1.StartProcess{
		Id: string(s.ID), Start: start, User: e.User,
		// Rounded up: zero means none.
		TimeoutMs:    uint64((e.Timeout + time.Millisecond - 1) / time.Millisecond),
		JournalBytes: uint32(s.JournalBytes), Block: s.Block,
	}
}

// processOf converts a record of the guest.
func processOf(p *guestv1.ProcessRecord) control.Process {
	out := control.Process{
		ID: control.ProcessID(p.GetId()), Cmd: p.GetCmd(), Args: p.GetArgs(), ArgsTruncated: p.GetArgsTruncated(),
		Cwd: p.GetCwd(), User: p.GetUser(), Stdin: p.GetStdin(), Terminal: p.GetTerminal(),
		Block: p.GetBlock(), JournalBytes: int(p.GetJournalBytes()), StartedAt: guestTime(p.GetStartedUnixNano()),
		OutputStart: int64(p.GetOutputStart()), OutputEnd: int64(p.GetOutputEnd()),
		Acknowledged: int64(p.GetAcknowledged()), TruncatedBytes: int64(p.GetDropped()),
	}
	if p.GetEndedUnixNano() == 0 {
		return out
	}
	exit := &control.ProcessExit{
		At: guestTime(p.GetEndedUnixNano()), Code: exitCode(int32(p.GetExitCode())),
		TimedOut: p.GetTimedOut(), OutOfMemory: p.GetOom(), Rebooted: p.GetRebooted(),
	}
	if n := int(p.GetSignal()); n > 0 && n <= maxSignal {
		exit.Signal, exit.Code = syscall.Signal(n).String(), 128+n
	}
	out.Exit = exit
	return out
}

// latestGuestTime is a time that RFC 3339 can still write.
var latestGuestTime = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// guestTime returns a time of the guest's clock, limited to the years that RFC 3339
// knows.
func guestTime(nano int64) time.Time {
	t := time.Unix(0, nano).UTC()
	if t.Before(time.Unix(0, 0)) {
		return time.Unix(0, 0).UTC()
	}
	if t.After(latestGuestTime) {
		return latestGuestTime
	}
	return t
}

// AttachProcess implements control.Host.
func (c *Client) AttachProcess(ctx context.Context, ref sandbox.Ref, a control.ProcessAttach, sink control.ProcessSink) (control.Process, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	call := &guestv1.AttachCall{Id: string(a.ID), Offset: a.Offset, AutoAcknowledge: a.AutoAck}
	stream, err := c.rpc.AttachProcess(ctx, connect.NewRequest(&hostv1.AttachProcessRequest{Ref: refToProto(ref), Call: call}))
	if err != nil {
		return control.Process{}, faultOf(ctx, err)
	}
	defer stream.Close()
	defer cancel() // Close would otherwise wait for the rest of the output
	var last *guestv1.ProcessRecord
	attached := false
	for stream.Receive() {
		event := stream.Msg().GetEvent()
		if p := event.GetProcess(); p != nil {
			if last = p; attached {
				continue
			}
			attached = true
		}
		if err := deliverPiece(event, sink); err != nil {
			return control.Process{}, err
		}
	}
	switch {
	case stream.Err() != nil:
		return control.Process{}, faultOf(ctx, stream.Err())
	case last.GetEndedUnixNano() == 0:
		return control.Process{}, broken("the end of the process is missing")
	}
	return processOf(last), nil
}

// deliverPiece hands an event to sink.
func deliverPiece(event *guestv1.AttachEvent, sink control.ProcessSink) error {
	piece := event.GetPiece()
	switch {
	case event.GetProcess() != nil:
		return sink.Attached(processOf(event.GetProcess()))
	case piece == nil:
		return nil
	case piece.GetKind() == guestv1.Piece_KIND_DROPPED:
		return sink.Truncated(int64(piece.GetOffset()), int64(piece.GetBytes()))
	}
	stream := map[guestv1.Piece_Kind]string{
		guestv1.Piece_KIND_STDERR: "stderr", guestv1.Piece_KIND_TERMINAL: "pty",
	}[piece.GetKind()]
	if stream == "" {
		stream = "stdout"
	}
	return sink.Output(stream, int64(piece.GetOffset()), piece.GetData())
}
