package hostclient

import (
	"context"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Exec implements control.Host. Returning early, on an error of sink, cancels
// the call, which kills the command.
func (c *Client) Exec(ctx context.Context, ref sandbox.Ref, e control.Exec, sink control.ExecSink) (control.ExecResult, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if e.Input != nil {
		return c.execWithInput(ctx, ref, e, sink)
	}
	begin := time.Now()
	stream, err := c.rpc.Exec(ctx, connect.NewRequest(execToProto(ref, e)))
	if err != nil {
		return control.ExecResult{}, faultOf(ctx, err)
	}
	defer stream.Close()
	defer cancel() // Close would otherwise wait for the rest of the output
	for stream.Receive() {
		switch event := stream.Msg().GetEvent().GetEvent().(type) {
		case *process.ProcessEvent_Data:
			if err := deliver(event.Data, sink); err != nil {
				return control.ExecResult{}, err
			}
		case *process.ProcessEvent_End:
			return resultOf(event.End, time.Since(begin)), nil
		}
	}
	if err := stream.Err(); err != nil {
		return control.ExecResult{}, faultOf(ctx, err)
	}
	return control.ExecResult{}, control.MarkUnknown(broken("the command's end is missing"))
}

func execToProto(ref sandbox.Ref, e control.Exec) *hostv1.ExecRequest {
	stdin := len(e.Stdin) > 0 || e.Input != nil
	p := &process.ProcessConfig{Cmd: e.Cmd, Args: e.Args, Envs: e.Env}
	if e.Cwd != "" {
		p.Cwd = &e.Cwd
	}
	return &hostv1.ExecRequest{
		Ref: refToProto(ref), Start: &process.StartRequest{Process: p, Stdin: &stdin}, User: e.User, Stdin: e.Stdin,
		// Rounded up: zero means none.
		TimeoutMs: uint32((e.Timeout + time.Millisecond - 1) / time.Millisecond),
	}
}

// deliver hands one piece of output to sink. A terminal has one stream only.
func deliver(d *process.ProcessEvent_DataEvent, sink control.ExecSink) error {
	switch out := d.GetOutput().(type) {
	case *process.ProcessEvent_DataEvent_Stdout:
		return sink.Stdout(out.Stdout)
	case *process.ProcessEvent_DataEvent_Stderr:
		return sink.Stderr(out.Stderr)
	case *process.ProcessEvent_DataEvent_Pty:
		return sink.Stdout(out.Pty)
	}
	return nil
}

// statusSignal begins the status of a process that a signal ended; the
// signal's name follows, as Go's os.ProcessState prints it.
const statusSignal = "signal: "

// resultOf reads an end event. Its status is data of the protocol: the only
// place where the signal is named. The guest wrote it, so that a name is only
// taken from the list of signals.
func resultOf(end *process.ProcessEvent_EndEvent, took time.Duration) control.ExecResult {
	res := control.ExecResult{ExitCode: exitCode(end.GetExitCode()), OutOfMemory: end.GetOom(), Duration: took}
	name, signalled := strings.CutPrefix(end.GetStatus(), statusSignal)
	name = strings.TrimSuffix(name, " (core dumped)")
	if n, ok := signalNumbers[name]; ok && signalled {
		res.Signal, res.ExitCode = name, 128+n
	}
	return res
}

// exitCode bounds the code that the guest tells: a process has 8 bits for it
// (wait(2)). Only a guest that lies, or that names a signal unknown here, has
// another one; it counts as 255.
func exitCode(told int32) int {
	if told < 0 || told > 255 {
		return 255
	}
	return int(told)
}

// maxSignal is the highest signal of Linux (SIGRTMAX, signal(7)).
const maxSignal = 64

var signalNumbers = func() map[string]int {
	m := make(map[string]int, maxSignal)
	for n := 1; n <= maxSignal; n++ {
		m[syscall.Signal(n).String()] = n
	}
	return m
}()
