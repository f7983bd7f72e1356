package rpc

import (
	"context"
	"time"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// CallProcess does one operation on the processes of a guest.
func (s *service) CallProcess(ctx context.Context, req *connect.Request[hostv1.CallProcessRequest]) (*connect.Response[hostv1.CallProcessResponse], error) {
	ref, err := toRef(req.Msg.GetRef())
	if err != nil {
		return nil, faultrpc.ToConnect(err)
	}
	call, again := req.Msg.GetCall(), req.Msg.GetStartAgain()
	answer, err := s.callProcess(ctx, ref, call, again)
	if err != nil {
		return nil, s.fail(ctx, "CallProcess", err)
	}
	return connect.NewResponse(&hostv1.CallProcessResponse{Answer: answer}), nil
}

// callProcess does a call, and records a process that it starts as the start command of a
// template if again is not nil. It ends the process of the start command that was recorded
// before, and starts no process that cannot be recorded.
func (s *service) callProcess(ctx context.Context, ref sandbox.Ref, call *guestv1.ProcessCall, again *hostv1.StartAgain) (*guestv1.ProcessAnswer, error) {
	if again == nil {
		return s.manager.CallProcess(ctx, ref, call)
	}
	start := startCommand(call.GetStart(), again)
	if err := start.Validate(); err != nil {
		return nil, err
	}
	if err := s.manager.EndStart(ctx, ref, start.ID); err != nil {
		return nil, err
	}
	answer, err := s.manager.CallProcess(ctx, ref, call)
	if err != nil {
		return nil, err
	}
	return answer, s.manager.StartAgain(ctx, ref, start)
}

// startCommand returns the start command of a template that a call has started.
func startCommand(start *guestv1.StartProcess, again *hostv1.StartAgain) sandbox.StartCommand {
	p := start.GetStart().GetProcess()
	out := sandbox.StartCommand{
		ID: start.GetId(), User: start.GetUser(), Dir: p.GetCwd(),
		Ready: again.GetReady(), ReadyTimeout: time.Duration(again.GetReadyTimeoutSec()) * time.Second,
	}
	if p.GetCmd() != "" {
		out.Command = append([]string{p.GetCmd()}, p.GetArgs()...)
	}
	return out
}

// AttachProcess streams the output of a process of a guest.
func (s *service) AttachProcess(ctx context.Context, req *connect.Request[hostv1.AttachProcessRequest], stream *connect.ServerStream[hostv1.AttachProcessResponse]) error {
	ref, err := toRef(req.Msg.GetRef())
	if err != nil {
		return faultrpc.ToConnect(err)
	}
	err = s.manager.AttachProcess(ctx, ref, req.Msg.GetCall(), func(event *guestv1.AttachEvent) error {
		return stream.Send(&hostv1.AttachProcessResponse{Event: event})
	})
	if err != nil {
		return s.fail(ctx, "AttachProcess", err)
	}
	return nil
}
