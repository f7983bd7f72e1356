package rpc

import (
	"context"
	"maps"
	"time"

	"connectrpc.com/connect"

	pb "github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
	"github.com/wrenn-dev/wrenn/internal/guest/process"
)

// Start implements process.Process. The command outlives the call: only its
// own end, its lifetime or a signal ends it.
func (p processService) Start(ctx context.Context, req *connect.Request[pb.StartRequest], stream *connect.ServerStream[pb.StartResponse]) error {
	spec, err := p.spec(ctx, req)
	if err != nil {
		return faultrpc.ToConnect(err)
	}
	proc, sub, err := p.server.processes.Start(spec)
	if err != nil {
		return faultrpc.ToConnect(err)
	}
	defer sub.Detach()
	f := follower{
		proc: proc, sub: sub, keepalive: keepaliveOf(req.Header()),
		send: func(e *pb.ProcessEvent) error { return stream.Send(&pb.StartResponse{Event: e}) },
	}
	if err := f.follow(ctx); err != nil {
		return err
	}
	if proc.Exit().TimedOut {
		return faultrpc.ToConnect(fault.New(fault.Timeout, "exec_timeout", "the command ran longer than its timeout of %s and was killed", spec.Timeout))
	}
	return f.end()
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
		return err
	}
	return f.end()
}

// spec turns a request into what the table starts.
func (p processService) spec(ctx context.Context, req *connect.Request[pb.StartRequest]) (process.Spec, error) {
	who, err := p.server.actorOf(ctx, req.Header())
	if err != nil {
		return process.Spec{}, err
	}
	config := req.Msg.GetProcess()
	if config == nil {
		config = &pb.ProcessConfig{}
	}
	if err := validateEnvs(config.GetEnvs()); err != nil {
		return process.Spec{}, err
	}
	dir, err := who.workdir(config.Cwd)
	if err != nil {
		return process.Spec{}, err
	}
	spec := process.Spec{
		Cmd:        config.GetCmd(),
		Args:       config.GetArgs(),
		Env:        who.environ(config.GetEnvs()),
		Dir:        dir,
		Credential: process.Credential{UID: who.UID, GID: who.GID, Groups: who.Groups},
		Stdin:      req.Msg.Stdin == nil || *req.Msg.Stdin,
		Timeout:    lifetimeOf(ctx),
		Label:      process.Label{Envs: maps.Clone(config.GetEnvs()), Cwd: config.Cwd, Tag: req.Msg.Tag},
	}
	if pty := req.Msg.GetPty(); pty != nil {
		size := sizeOf(pty)
		spec.Terminal = &size
	}
	return spec, nil
}

// follower sends one subscription's output to one stream.
type follower struct {
	proc      *process.Process
	sub       *process.Subscription
	keepalive time.Duration
	expired   <-chan time.Time
	send      func(*pb.ProcessEvent) error
}

// follow sends the start event and output until the command has ended. A
// silent stream carries keepalives.
func (f *follower) follow(ctx context.Context) error {
	start := &pb.ProcessEvent_StartEvent{Pid: uint32(f.proc.PID())}
	if err := f.send(&pb.ProcessEvent{Event: &pb.ProcessEvent_Start{Start: start}}); err != nil {
		return err
	}
	quiet := time.NewTimer(f.keepalive)
	defer quiet.Stop()
	for {
		var event *pb.ProcessEvent
		select {
		case piece, ok := <-f.sub.Output():
			if !ok {
				<-f.proc.Ended()
				return nil
			}
			event = dataEvent(piece)
		case <-quiet.C:
			event = &pb.ProcessEvent{Event: &pb.ProcessEvent_Keepalive{Keepalive: &pb.ProcessEvent_KeepAlive{}}}
		case <-f.expired:
			return faultrpc.ToConnect(fault.New(fault.Timeout, "connect_timeout", "the stream was open longer than its timeout; the command goes on"))
		case <-ctx.Done():
			return faultrpc.ToConnect(context.Cause(ctx))
		}
		if err := f.send(event); err != nil {
			return err
		}
		quiet.Reset(f.keepalive)
	}
}

// end sends how the command ended.
func (f *follower) end() error {
	exit := f.proc.Exit()
	end := &pb.ProcessEvent_EndEvent{ExitCode: int32(exit.Code), Exited: exit.Signal == 0, Status: exit.Status}
	if exit.Code != 0 {
		end.Error = &exit.Status
	}
	return f.send(&pb.ProcessEvent{Event: &pb.ProcessEvent_End{End: end}})
}

func dataEvent(o process.Output) *pb.ProcessEvent {
	data := &pb.ProcessEvent_DataEvent{}
	switch o.Kind {
	case process.Stderr:
		data.Output = &pb.ProcessEvent_DataEvent_Stderr{Stderr: o.Data}
	case process.Terminal:
		data.Output = &pb.ProcessEvent_DataEvent_Pty{Pty: o.Data}
	default:
		data.Output = &pb.ProcessEvent_DataEvent_Stdout{Stdout: o.Data}
	}
	return &pb.ProcessEvent{Event: &pb.ProcessEvent_Data{Data: data}}
}
