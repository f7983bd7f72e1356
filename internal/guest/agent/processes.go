package agent

import (
	"context"
	"strings"
	"syscall"
	"time"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/process"
)

const (
	// maxProcessID is the longest id of a process, in characters.
	maxProcessID = 48
	// maxRecordArgs bounds the arguments in a record of a process, in bytes, and
	// maxRecordText the other texts, so that a list of all fits into a message.
	maxRecordArgs = 512
	maxRecordText = 256
	// maxWait bounds a wait for the end of a process.
	maxWait = 15 * time.Minute
	// maxSignal is the highest signal of Linux (SIGRTMAX, signal(7)).
	maxSignal = 64
)

// CallProcess does one operation on the processes with an id. ctx must come from
// Epoch.Bind. An id that is not in use is NotFound process_not_found, and an operation
// that an ended process cannot do WrongState process_ended.
func (a *Agent) CallProcess(ctx context.Context, call *guestv1.ProcessCall) (*guestv1.ProcessAnswer, error) {
	var proc *process.Process
	var err error
	switch op := call.GetOperation().(type) {
	case *guestv1.ProcessCall_List:
		answer := &guestv1.ProcessAnswer{Processes: a.records()}
		if op.List.GetCommands() {
			for _, b := range a.processes.Briefs() {
				answer.Commands = append(answer.Commands, commandOf(b))
			}
		}
		return answer, nil
	case *guestv1.ProcessCall_Start:
		proc, err = a.startProcess(ctx, op.Start)
	case *guestv1.ProcessCall_Get:
		proc, err = a.awaitProcess(ctx, op.Get)
	case *guestv1.ProcessCall_Input:
		proc, err = a.liveProcess(op.Input.GetId(), func(p *process.Process) error { return writeInput(ctx, p, op.Input) })
	case *guestv1.ProcessCall_Signal:
		proc, err = a.liveProcess(op.Signal.GetId(), func(p *process.Process) error { return sendSignal(p, op.Signal) })
	case *guestv1.ProcessCall_Resize:
		size := process.Size{Cols: uint16(min(op.Resize.GetCols(), 1<<16-1)), Rows: uint16(min(op.Resize.GetRows(), 1<<16-1))}
		proc, err = a.liveProcess(op.Resize.GetId(), func(p *process.Process) error { return p.Resize(size) })
	case *guestv1.ProcessCall_Acknowledge:
		if proc, err = a.processes.ByID(op.Acknowledge.GetId()); err == nil {
			proc.Acknowledge(int64(min(op.Acknowledge.GetOffset(), 1<<62)))
		}
	default:
		return nil, fault.New(fault.Invalid, "invalid_message", "the call names no operation")
	}
	if err != nil {
		return nil, fault.As(err)
	}
	return &guestv1.ProcessAnswer{Processes: []*guestv1.ProcessRecord{recordOf(proc)}}, nil
}

// records returns the processes with an id, the oldest first.
func (a *Agent) records() (out []*guestv1.ProcessRecord) {
	for _, p := range a.processes.Records() {
		out = append(out, recordOf(p))
	}
	return out
}

func (a *Agent) startProcess(ctx context.Context, m *guestv1.StartProcess) (*process.Process, error) {
	if id := m.GetId(); id == "" || len(id) > maxProcessID || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return nil, fault.New(fault.Invalid, "invalid_message", "the id of a process has 1 to %d characters of a-z and 0-9", maxProcessID)
	}
	spec, err := a.spec(ctx, Command{
		User: m.GetUser(), Request: m.GetStart(), Lifetime: time.Duration(min(m.GetTimeoutMs(), 1<<40)) * time.Millisecond,
	})
	if err != nil {
		return nil, err
	}
	if spec.Terminal != nil {
		spec.Env = withTerm(spec.Env)
	}
	spec.ID, spec.Journal, spec.Block = m.GetId(), int(m.GetJournalBytes()), m.GetBlock()
	proc, sub, err := a.processes.Start(spec)
	if err != nil {
		return nil, err
	}
	sub.Detach()
	return proc, nil
}

// withTerm returns env with a TERM for a process on a terminal, unless it has one.
func withTerm(env []string) []string {
	for _, e := range env {
		if strings.HasPrefix(e, "TERM=") {
			return env
		}
	}
	return append(env, "TERM=xterm-256color")
}

// awaitProcess finds a process and waits for its end as m says.
func (a *Agent) awaitProcess(ctx context.Context, m *guestv1.GetProcess) (*process.Process, error) {
	proc, err := a.processes.ByID(m.GetId())
	if err != nil || m.GetWaitMs() == 0 {
		return proc, err
	}
	timer := time.NewTimer(min(time.Duration(m.GetWaitMs())*time.Millisecond, maxWait))
	defer timer.Stop()
	select {
	case <-proc.Ended():
		return proc, nil
	case <-timer.C:
		return proc, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// liveProcess does something with a process that must be running.
func (a *Agent) liveProcess(id string, do func(*process.Process) error) (*process.Process, error) {
	proc, err := a.processes.ByID(id)
	if err != nil {
		return nil, err
	}
	if proc.Running() {
		if err = do(proc); err == nil || proc.Running() {
			return proc, err
		}
	}
	return nil, fault.Wrap(err, fault.WrongState, "process_ended", "the process has ended")
}

func writeInput(ctx context.Context, p *process.Process, m *guestv1.WriteInput) error {
	if p.Terminal() {
		if m.GetClose() {
			return fault.New(fault.WrongState, "no_stdin", "the input of a terminal cannot be closed; write the character Ctrl-D (0x04) to end it")
		}
		return p.WriteTerminal(ctx, m.GetData())
	}
	if len(m.GetData()) > 0 || !m.GetClose() {
		if err := p.WriteStdin(ctx, m.GetData()); err != nil {
			return err
		}
	}
	if m.GetClose() {
		return p.CloseStdin()
	}
	return nil
}

func sendSignal(p *process.Process, m *guestv1.SignalProcess) error {
	if n := m.GetSignal(); n == 0 || n > maxSignal {
		return fault.New(fault.Invalid, "invalid_signal", "a signal has a number from 1 to %d", maxSignal)
	}
	if m.GetAll() {
		return p.SignalAll(syscall.Signal(m.GetSignal()))
	}
	return p.Signal(syscall.Signal(m.GetSignal()))
}
