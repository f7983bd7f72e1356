package agent

import (
	"context"
	"maps"
	"sync"
	"syscall"
	"time"

	pb "github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/process"
)

// DefaultKeepalive is the longest silence of a stream of events by default.
const DefaultKeepalive = 90 * time.Second

// Command is a command to run, as any transport asks for it.
type Command struct {
	// User is empty for the default user.
	User    string
	Request *pb.StartRequest
	// Lifetime is 0 for no limit.
	Lifetime time.Duration
	// Ticket, unless 0, is the number under which Outcome finds the command if
	// this agent dies.
	Ticket uint64
	// Keepalive is how long the stream of events may be silent.
	Keepalive time.Duration
	// Unrecorded keeps no record of the command: it is none of the sandbox's users.
	Unrecorded bool
}

// Run starts c and hands its events to send until it has ended. When send fails
// or ctx ends, Run returns and the command continues. A command killed at the
// end of its lifetime is Timeout exec_timeout, after its output. ctx must come
// from Epoch.Bind.
func (a *Agent) Run(ctx context.Context, c Command, send func(*pb.ProcessEvent) error) error {
	spec, err := a.spec(ctx, c)
	if err != nil {
		return err
	}
	proc, sub, err := a.processes.Start(spec)
	if err != nil {
		return err
	}
	defer sub.Detach()
	f := Follower{Process: proc, Subscription: sub, Keepalive: c.Keepalive, Send: send}
	if err := f.output(ctx); err != nil {
		return err
	}
	if proc.Exit().TimedOut {
		return fault.New(fault.Timeout, "exec_timeout", "the command ran longer than its timeout of %s and was killed", spec.Timeout)
	}
	return f.end()
}

// Outcome returns how a command ended that an earlier agent started with ticket.
// It kills one that still runs. Any other ticket is NotFound process_not_found.
func (a *Agent) Outcome(ctx context.Context, ticket uint64) (*pb.ProcessEvent, error) {
	status, err := a.platform.OrphanStatus(ctx, ticket)
	if err != nil {
		return nil, fault.As(err)
	}
	return endEvent(process.ExitOf(status)), nil
}

// Kill ends the command with pid and all it started.
func (a *Agent) Kill(pid uint32) error {
	proc, err := a.processes.ByPID(int(pid))
	if err == nil {
		err = proc.Signal(syscall.SIGKILL)
	}
	if err != nil {
		return fault.As(err)
	}
	return nil
}

// spec returns c as the process table starts it.
func (a *Agent) spec(ctx context.Context, c Command) (process.Spec, error) {
	who, err := a.Actor(ctx, c.User)
	if err != nil {
		return process.Spec{}, err
	}
	config := c.Request.GetProcess()
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
		Stdin:      c.Request.Stdin == nil || *c.Request.Stdin,
		Timeout:    c.Lifetime,
		Label:      process.Label{Envs: maps.Clone(config.GetEnvs()), Cwd: config.Cwd, Tag: c.Request.Tag, User: who.Name},
		Unrecorded: c.Unrecorded,
	}
	if ticket := c.Ticket; ticket != 0 {
		spec.Starting = func(group string) { a.platform.CommandStarting(ticket, group) }
		spec.Started = func(pid int) { a.platform.CommandStarted(ticket, pid) }
	}
	if pty := c.Request.GetPty(); pty != nil {
		size := TerminalSize(pty)
		spec.Terminal = &size
	}
	return spec, nil
}

// TerminalSize returns the size in pty, limited to the range of a terminal.
func TerminalSize(pty *pb.PTY) process.Size {
	clamp := func(n uint32) uint16 { return uint16(min(n, 1<<16-1)) }
	return process.Size{Cols: clamp(pty.GetSize().GetCols()), Rows: clamp(pty.GetSize().GetRows())}
}

// Follower sends the events of a command that one subscription receives.
type Follower struct {
	Process      *process.Process
	Subscription *process.Subscription
	// Keepalive is how long the stream may be silent.
	Keepalive time.Duration
	// Expired, unless nil, ends the stream when it fires.
	Expired <-chan time.Time
	Send    func(*pb.ProcessEvent) error
}

// Follow sends the start event, the output and the end of the command. A fired
// Expired is Timeout connect_timeout.
func (f *Follower) Follow(ctx context.Context) error {
	if err := f.output(ctx); err != nil {
		return err
	}
	return f.end()
}

// output sends the start event and output until the command has ended. A silent
// stream carries keepalives.
func (f *Follower) output(ctx context.Context) error {
	start := &pb.ProcessEvent_StartEvent{Pid: uint32(f.Process.PID())}
	if err := f.Send(&pb.ProcessEvent{Event: &pb.ProcessEvent_Start{Start: start}}); err != nil {
		return err
	}
	quiet := time.NewTimer(f.Keepalive)
	defer quiet.Stop()
	buf := buffers.Get().(*[followBytes]byte)
	defer buffers.Put(buf)
	for {
		piece, more, ended := f.Subscription.Next(buf[:])
		switch {
		case ended:
			<-f.Process.Ended()
			return nil
		case more && piece.Kind != process.Dropped:
			if err := f.Send(dataEvent(piece)); err != nil {
				return err
			}
			quiet.Reset(f.Keepalive)
		}
		if more && ctx.Err() == nil {
			continue
		}
		select {
		case <-f.Subscription.Ready():
		case <-quiet.C:
			err := f.Send(&pb.ProcessEvent{Event: &pb.ProcessEvent_Keepalive{Keepalive: &pb.ProcessEvent_KeepAlive{}}})
			if err != nil {
				return err
			}
			quiet.Reset(f.Keepalive)
		case <-f.Expired:
			return fault.New(fault.Timeout, "connect_timeout", "the stream was open longer than its timeout; the command continues")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// followBytes is the size of the largest piece of output in one event.
const followBytes = 32 << 10

// buffers are the buffers of streams of events.
var buffers = sync.Pool{New: func() any { return new([followBytes]byte) }}

// end sends how the command ended.
func (f *Follower) end() error { return f.Send(endEvent(f.Process.Exit())) }

func endEvent(exit process.Exit) *pb.ProcessEvent {
	end := &pb.ProcessEvent_EndEvent{ExitCode: int32(exit.Code), Exited: exit.Signal == 0, Status: exit.Status}
	if exit.Code != 0 {
		end.Error = &exit.Status
	}
	if exit.OutOfMemory {
		text := exit.Status + ": the sandbox ran out of memory"
		end.Oom, end.Error = true, &text
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
