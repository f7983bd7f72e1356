package rpc

import (
	"context"
	"maps"
	"time"

	pb "github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/process"
)

// command is a command to run, as any transport asks for it.
type command struct {
	// user is the default user's name when empty.
	user    string
	request *pb.StartRequest
	// lifetime is 0 for no limit.
	lifetime time.Duration
	// starting and started, when not nil, are those of process.Spec.
	starting func(group string)
	started  func(pid int)
	// keepalive is how long the stream of events may be silent.
	keepalive time.Duration
}

// run starts c and hands its events to send until it has ended. When send
// fails or ctx ends, so does run; the command goes on. A command killed for its
// lifetime is Timeout with reason exec_timeout, after the output it gave.
func (s *Server) run(ctx context.Context, c command, send func(*pb.ProcessEvent) error) error {
	spec, err := s.spec(ctx, c)
	if err != nil {
		return err
	}
	proc, sub, err := s.processes.Start(spec)
	if err != nil {
		return err
	}
	defer sub.Detach()
	f := follower{proc: proc, sub: sub, keepalive: c.keepalive, send: send}
	if err := f.follow(ctx); err != nil {
		return err
	}
	if proc.Exit().TimedOut {
		return fault.New(fault.Timeout, "exec_timeout", "the command ran longer than its timeout of %s and was killed", spec.Timeout)
	}
	return f.end()
}

// spec turns a request into what the table starts.
func (s *Server) spec(ctx context.Context, c command) (process.Spec, error) {
	who, err := s.actorNamed(ctx, c.user)
	if err != nil {
		return process.Spec{}, err
	}
	config := c.request.GetProcess()
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
		Stdin:      c.request.Stdin == nil || *c.request.Stdin,
		Timeout:    c.lifetime,
		Starting:   c.starting,
		Started:    c.started,
		Label:      process.Label{Envs: maps.Clone(config.GetEnvs()), Cwd: config.Cwd, Tag: c.request.Tag},
	}
	if pty := c.request.GetPty(); pty != nil {
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
			return fault.New(fault.Timeout, "connect_timeout", "the stream was open longer than its timeout; the command goes on")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := f.send(event); err != nil {
			return err
		}
		quiet.Reset(f.keepalive)
	}
}

// end sends how the command ended.
func (f *follower) end() error {
	return f.send(endEvent(f.proc.Exit()))
}

func endEvent(exit process.Exit) *pb.ProcessEvent {
	end := &pb.ProcessEvent_EndEvent{ExitCode: int32(exit.Code), Exited: exit.Signal == 0, Status: exit.Status}
	if exit.Code != 0 {
		end.Error = &exit.Status
	}
	return &pb.ProcessEvent{Event: &pb.ProcessEvent_End{End: end}}
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
