package hostclient

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// stdinBytes is the size of one piece of stdin on its way to the host.
const stdinBytes = 32 << 10

// inputCall is the call of a command whose stdin comes while it runs.
type inputCall = connect.BidiStreamForClient[hostv1.ExecWithInputRequest, hostv1.ExecWithInputResponse]

// execWithInput is Exec for a command with e.Input.
func (c *Client) execWithInput(ctx context.Context, ref sandbox.Ref, e control.Exec, sink control.ExecSink) (control.ExecResult, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	begin := time.Now()
	stream := c.rpc.ExecWithInput(ctx)
	// HTTP/2 does not look at ctx while it waits for the next message to send.
	defer context.AfterFunc(ctx, func() { _ = stream.CloseRequest() })()
	var feeding sync.WaitGroup
	// In this order: nothing waits for the caller, for the host or for the rest
	// of the output any more, then the feeding has ended.
	defer stream.CloseResponse()
	defer feeding.Wait()
	defer cancel(nil)
	first := &hostv1.ExecWithInputRequest{Message: &hostv1.ExecWithInputRequest_Exec{Exec: execToProto(ref, e)}}
	if err := stream.Send(first); err != nil && !errors.Is(err, io.EOF) { // EOF: Receive has the reason
		return control.ExecResult{}, faultOf(ctx, err)
	}
	for {
		m, err := stream.Receive()
		switch {
		case errors.Is(err, io.EOF):
			return control.ExecResult{}, control.MarkUnknown(broken("the command's end is missing"))
		case err != nil:
			var ours *inputError
			if errors.As(context.Cause(ctx), &ours) {
				return control.ExecResult{}, ours.error
			}
			return control.ExecResult{}, faultOf(ctx, err)
		}
		switch event := m.GetEvent().GetEvent().(type) {
		case *process.ProcessEvent_Start:
			defer e.Input.Close()
			feeding.Go(func() {
				if err := fault.Caught(func() error { feed(stream, e.Input, cancel); return nil }); err != nil {
					cancel(&inputError{err})
				}
			})
		case *process.ProcessEvent_Data:
			if err := deliver(event.Data, sink); err != nil {
				return control.ExecResult{}, err
			}
		case *process.ProcessEvent_End:
			return resultOf(event.End, time.Since(begin)), nil
		}
	}
}

// inputError ends a call because its input failed.
type inputError struct{ error }

// feed sends input to the command until it ends. A command need not read it
// all, so a failed Send says nothing about the command; an error of input ends
// the call.
func feed(stream *inputCall, input io.Reader, abort context.CancelCauseFunc) {
	buf := make([]byte, stdinBytes)
	for {
		n, err := input.Read(buf)
		if n > 0 {
			piece := &hostv1.ExecWithInputRequest{Message: &hostv1.ExecWithInputRequest_Stdin{Stdin: buf[:n]}}
			if stream.Send(piece) != nil {
				return
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			_ = stream.Send(&hostv1.ExecWithInputRequest{Message: &hostv1.ExecWithInputRequest_StdinEnd{StdinEnd: true}})
			return
		case err != nil:
			abort(&inputError{err})
			return
		}
	}
}
