package envd

import (
	"context"
	"errors"
	"maps"
	"syscall"

	"connectrpc.com/connect"

	pb "github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
	"github.com/wrenn-dev/wrenn/internal/guest/agent"
	"github.com/wrenn-dev/wrenn/internal/guest/process"
)

// processService serves process.Process.
type processService struct{ server *Server }

func (p processService) find(sel *pb.ProcessSelector) (*process.Process, error) {
	table := p.server.agent.Processes()
	switch s := sel.GetSelector().(type) {
	case *pb.ProcessSelector_Pid:
		return table.ByPID(int(s.Pid))
	case *pb.ProcessSelector_Tag:
		return table.ByTag(s.Tag)
	default:
		return nil, fault.New(fault.Invalid, "missing_process", "a process must be selected by pid or tag")
	}
}

// List implements process.Process.
func (p processService) List(context.Context, *connect.Request[pb.ListRequest]) (*connect.Response[pb.ListResponse], error) {
	resp := &pb.ListResponse{}
	for _, proc := range p.server.agent.Processes().List() {
		spec := proc.Spec()
		resp.Processes = append(resp.Processes, &pb.ProcessInfo{
			Pid: uint32(proc.PID()),
			Tag: spec.Label.Tag,
			Config: &pb.ProcessConfig{
				Cmd: spec.Cmd, Args: spec.Args, Envs: maps.Clone(spec.Label.Envs), Cwd: spec.Label.Cwd,
			},
		})
	}
	return connect.NewResponse(resp), nil
}

// Update implements process.Process.
func (p processService) Update(_ context.Context, req *connect.Request[pb.UpdateRequest]) (*connect.Response[pb.UpdateResponse], error) {
	proc, err := p.find(req.Msg.GetProcess())
	if err == nil && req.Msg.GetPty() != nil {
		err = proc.Resize(agent.TerminalSize(req.Msg.GetPty()))
	}
	return answer(&pb.UpdateResponse{}, err)
}

// SendInput implements process.Process.
func (p processService) SendInput(ctx context.Context, req *connect.Request[pb.SendInputRequest]) (*connect.Response[pb.SendInputResponse], error) {
	proc, err := p.find(req.Msg.GetProcess())
	if err == nil {
		err = write(ctx, proc, req.Msg.GetInput())
	}
	return answer(&pb.SendInputResponse{}, err)
}

// StreamInput implements process.Process. Each message reaches the process as it arrives.
// Its timeout ends the stream and not the command.
func (p processService) StreamInput(ctx context.Context, stream *connect.ClientStream[pb.StreamInputRequest]) (*connect.Response[pb.StreamInputResponse], error) {
	ctx, release := inputContext(ctx)
	defer release()
	err := p.takeInput(ctx, stream)
	if err != nil && errors.Is(context.Cause(ctx), errStreamExpired) {
		err = faultrpc.ToConnect(errStreamExpired)
	}
	if err != nil {
		endReading(ctx)
		return nil, err
	}
	return connect.NewResponse(&pb.StreamInputResponse{}), nil
}

// takeInput hands the messages of stream to the process that the first one selects.
func (p processService) takeInput(ctx context.Context, stream *connect.ClientStream[pb.StreamInputRequest]) error {
	var proc *process.Process
	for stream.Receive() {
		var err error
		switch e := stream.Msg().GetEvent().(type) {
		case *pb.StreamInputRequest_Start:
			proc, err = p.find(e.Start.GetProcess())
		case *pb.StreamInputRequest_Data:
			if proc == nil {
				err = fault.New(fault.Invalid, "missing_process", "the first message must select a process")
			} else {
				err = write(ctx, proc, e.Data.GetInput())
			}
		}
		if err != nil {
			return faultrpc.ToConnect(err)
		}
	}
	return stream.Err()
}

func write(ctx context.Context, proc *process.Process, in *pb.ProcessInput) error {
	switch i := in.GetInput().(type) {
	case *pb.ProcessInput_Stdin:
		return proc.WriteStdin(ctx, i.Stdin)
	case *pb.ProcessInput_Pty:
		return proc.WriteTerminal(ctx, i.Pty)
	default:
		return fault.New(fault.Invalid, "missing_input", "input must hold stdin or pty")
	}
}

// SendSignal implements process.Process.
func (p processService) SendSignal(_ context.Context, req *connect.Request[pb.SendSignalRequest]) (*connect.Response[pb.SendSignalResponse], error) {
	proc, err := p.find(req.Msg.GetProcess())
	if err == nil {
		switch sig := req.Msg.GetSignal(); sig {
		case pb.Signal_SIGNAL_SIGKILL, pb.Signal_SIGNAL_SIGTERM:
			err = proc.Signal(syscall.Signal(sig))
		default:
			err = fault.New(fault.Invalid, "invalid_signal", "signal must be SIGNAL_SIGTERM or SIGNAL_SIGKILL")
		}
	}
	return answer(&pb.SendSignalResponse{}, err)
}

// CloseStdin implements process.Process.
func (p processService) CloseStdin(_ context.Context, req *connect.Request[pb.CloseStdinRequest]) (*connect.Response[pb.CloseStdinResponse], error) {
	proc, err := p.find(req.Msg.GetProcess())
	if err == nil {
		err = proc.CloseStdin()
	}
	return answer(&pb.CloseStdinResponse{}, err)
}

// answer returns msg as a response, or err as a Connect error.
func answer[T any](msg *T, err error) (*connect.Response[T], error) {
	if err != nil {
		return nil, faultrpc.ToConnect(err)
	}
	return connect.NewResponse(msg), nil
}
