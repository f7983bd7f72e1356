package envd

import (
	"context"

	"connectrpc.com/connect"

	pb "github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
	"github.com/wrenn-dev/wrenn/internal/guest/agent"
)

// Start implements process.Process. The command outlives the call: it ends by
// itself, at the end of its lifetime, or by a signal.
func (p processService) Start(ctx context.Context, req *connect.Request[pb.StartRequest], stream *connect.ServerStream[pb.StartResponse]) error {
	actor, err := p.server.actorOf(ctx, req.Header())
	if err != nil {
		return faultrpc.ToConnect(err)
	}
	c := agent.Command{User: actor.Name, Request: req.Msg, Lifetime: lifetimeOf(ctx), Keepalive: keepaliveOf(req.Header())}
	return faultrpc.ToConnect(p.server.agent.Run(ctx, c, func(e *pb.ProcessEvent) error {
		return stream.Send(&pb.StartResponse{Event: public(e)})
	}))
}

// Connect implements process.Process. Its timeout ends the stream and not the command.
func (p processService) Connect(ctx context.Context, req *connect.Request[pb.ConnectRequest], stream *connect.ServerStream[pb.ConnectResponse]) error {
	proc, err := p.find(req.Msg.GetProcess())
	if err != nil {
		return faultrpc.ToConnect(err)
	}
	sub, err := proc.Subscribe()
	if err != nil {
		return faultrpc.ToConnect(err)
	}
	defer sub.Detach()
	expired, free := expiry(lifetimeOf(ctx))
	defer free()
	f := agent.Follower{
		Process: proc, Subscription: sub, Keepalive: keepaliveOf(req.Header()), Expired: expired,
		Send: func(e *pb.ProcessEvent) error { return stream.Send(&pb.ConnectResponse{Event: public(e)}) },
	}
	return faultrpc.ToConnect(f.Follow(ctx))
}

// public returns e without the field that is not part of the public protocol. Some of
// its clients refuse unknown fields in JSON. The text of the error has the reason.
func public(e *pb.ProcessEvent) *pb.ProcessEvent {
	if end := e.GetEnd(); end.GetOom() {
		end.Oom = false
	}
	return e
}
