package rpc

import (
	"context"

	"connectrpc.com/connect"

	pb "github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
)

// Start implements process.Process. The command outlives the call: only its
// own end, its lifetime or a signal ends it.
func (p processService) Start(ctx context.Context, req *connect.Request[pb.StartRequest], stream *connect.ServerStream[pb.StartResponse]) error {
	user, err := basicUser(req.Header().Get("Authorization"))
	if err != nil {
		return faultrpc.ToConnect(err)
	}
	c := command{user: user, request: req.Msg, lifetime: lifetimeOf(ctx), keepalive: keepaliveOf(req.Header())}
	return faultrpc.ToConnect(p.server.run(ctx, c, func(e *pb.ProcessEvent) error {
		return stream.Send(&pb.StartResponse{Event: e})
	}))
}

// Connect implements process.Process. Its timeout ends the stream alone.
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
	f := follower{
		proc: proc, sub: sub, keepalive: keepaliveOf(req.Header()), expired: expired,
		send: func(e *pb.ProcessEvent) error { return stream.Send(&pb.ConnectResponse{Event: e}) },
	}
	if err := f.follow(ctx); err != nil {
		return faultrpc.ToConnect(err)
	}
	return faultrpc.ToConnect(f.end())
}
