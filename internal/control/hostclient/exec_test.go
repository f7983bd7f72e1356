package hostclient_test

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
)

type sink struct {
	out, err bytes.Buffer
	fail     error
}

func (s *sink) Stdout(p []byte) error { s.out.Write(p); return s.fail }
func (s *sink) Stderr(p []byte) error { s.err.Write(p); return s.fail }

func event(e *process.ProcessEvent) *hostv1.ExecResponse { return &hostv1.ExecResponse{Event: e} }

func end(code int32, status string) *hostv1.ExecResponse {
	return event(&process.ProcessEvent{Event: &process.ProcessEvent_End{End: &process.ProcessEvent_EndEvent{ExitCode: code, Status: status}}})
}

func output(data *process.ProcessEvent_DataEvent) *hostv1.ExecResponse {
	return event(&process.ProcessEvent{Event: &process.ProcessEvent_Data{Data: data}})
}

func stdout(s string) *hostv1.ExecResponse {
	return output(&process.ProcessEvent_DataEvent{Output: &process.ProcessEvent_DataEvent_Stdout{Stdout: []byte(s)}})
}

func TestExec(t *testing.T) {
	t.Parallel()
	a := &agent{}
	c, _ := connectTo(t, a)
	for status, want := range map[string]control.ExecResult{
		"exit status 3":                            {ExitCode: 3},
		"exit status 255":                          {ExitCode: 255},
		"exit status 70000":                        {ExitCode: 255},
		"exit status -2147483648":                  {ExitCode: 255},
		"signal: killed":                           {ExitCode: 137, Signal: "killed"},
		"signal: segmentation fault (core dumped)": {ExitCode: 139, Signal: "segmentation fault"},
		"signal: nonsense":                         {ExitCode: 255},
		"signal: \x1b[31mkilled":                   {ExitCode: 255},
		"killed":                                   {ExitCode: 255},
	} {
		a.exec = func(_ context.Context, r *hostv1.ExecRequest, send func(*hostv1.ExecResponse) error) error {
			code := int32(-1)
			if n, ok := strings.CutPrefix(status, "exit status "); ok {
				told, _ := strconv.ParseInt(n, 10, 32)
				code = int32(told)
			}
			return errors.Join(
				send(event(&process.ProcessEvent{Event: &process.ProcessEvent_Start{Start: &process.ProcessEvent_StartEvent{Pid: 7}}})),
				send(stdout("out of "+r.GetStart().GetProcess().GetCmd())),
				send(output(&process.ProcessEvent_DataEvent{Output: &process.ProcessEvent_DataEvent_Stderr{Stderr: []byte("err")}})),
				send(event(&process.ProcessEvent{Event: &process.ProcessEvent_Keepalive{Keepalive: &process.ProcessEvent_KeepAlive{}}})),
				send(end(code, status)))
		}
		var s sink
		res, err := c.Exec(t.Context(), ref, control.Exec{Cmd: "ls"}, &s)
		if err != nil || res.ExitCode != want.ExitCode || res.Signal != want.Signal || res.Duration <= 0 {
			t.Errorf("%s: %+v, %v, want %+v", status, res, err, want)
		}
		if s.out.String() != "out of ls" || s.err.String() != "err" {
			t.Errorf("%s: output %q, %q", status, s.out.String(), s.err.String())
		}
	}
}

func TestExecEndsEarly(t *testing.T) {
	t.Parallel()
	a := &agent{}
	c, _ := connectTo(t, a)
	a.exec = func(context.Context, *hostv1.ExecRequest, func(*hostv1.ExecResponse) error) error { return nil }
	if _, err := c.Exec(t.Context(), ref, control.Exec{}, &sink{}); fault.ReasonOf(err) != "host_protocol" {
		t.Errorf("no end: %v", err)
	}
	a.exec = func(context.Context, *hostv1.ExecRequest, func(*hostv1.ExecResponse) error) error {
		return faultrpc.ToConnect(fault.New(fault.Timeout, "exec_timeout", "too slow"))
	}
	if _, err := c.Exec(t.Context(), ref, control.Exec{}, &sink{}); fault.ReasonOf(err) != "exec_timeout" {
		t.Errorf("timeout in the guest: %v", err)
	}
	// A sink that fails ends the call, and so the command.
	gone := make(chan error, 1)
	a.exec = func(ctx context.Context, _ *hostv1.ExecRequest, send func(*hostv1.ExecResponse) error) error {
		if err := send(stdout("x")); err != nil {
			return err
		}
		<-ctx.Done()
		gone <- ctx.Err()
		return ctx.Err()
	}
	full := errors.New("full")
	if _, err := c.Exec(t.Context(), ref, control.Exec{}, &sink{fail: full}); !errors.Is(err, full) {
		t.Errorf("sink: %v", err)
	}
	<-gone
}
