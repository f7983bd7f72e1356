package hostclient_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// pipeInput is a stdin that a test writes.
type pipeInput struct {
	*io.PipeReader
	once   sync.Once
	closed chan struct{}
}

func newPipeInput() (*pipeInput, *io.PipeWriter) {
	r, w := io.Pipe()
	return &pipeInput{PipeReader: r, closed: make(chan struct{})}, w
}

func (p *pipeInput) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.PipeReader.Close()
}

type inputStream = connect.BidiStream[hostv1.ExecWithInputRequest, hostv1.ExecWithInputResponse]

func started() *hostv1.ExecWithInputResponse {
	return &hostv1.ExecWithInputResponse{Event: &process.ProcessEvent{Event: &process.ProcessEvent_Start{Start: &process.ProcessEvent_StartEvent{Pid: 7}}}}
}

func as(r *hostv1.ExecResponse) *hostv1.ExecWithInputResponse {
	return &hostv1.ExecWithInputResponse{Event: r.GetEvent()}
}

// writerSink hands output on as it comes.
type writerSink struct{ io.Writer }

func (s writerSink) Stdout(p []byte) error { _, err := s.Write(p); return err }
func (s writerSink) Stderr([]byte) error   { return nil }

// TestInputComesWhileTheCommandRuns: each piece of stdin is written only when
// the answer to the one before it has come.
func TestInputComesWhileTheCommandRuns(t *testing.T) {
	t.Parallel()
	c, _ := connectTo(t, &agent{input: func(_ context.Context, s *inputStream) error {
		first, err := s.Receive()
		if err != nil || first.GetExec().GetStart().GetProcess().GetCmd() != "cat" || !first.GetExec().GetStart().GetStdin() {
			t.Errorf("the first message is %v (%v)", first, err)
		}
		_ = s.Send(started())
		for {
			m, err := s.Receive()
			if err != nil {
				return err
			}
			if m.GetStdinEnd() {
				return s.Send(as(end(3, "exit status 3")))
			}
			_ = s.Send(as(stdout(string(m.GetStdin()))))
		}
	}})
	in, stdin := newPipeInput()
	out, stdout := io.Pipe()
	go func() {
		defer stdin.Close()
		for _, line := range []string{"one\n", "two\n"} {
			_, _ = io.WriteString(stdin, line)
			got := make([]byte, len(line))
			if _, err := io.ReadFull(out, got); err != nil || string(got) != line {
				t.Errorf("the command wrote %q (%v), want %q", got, err, line)
			}
		}
	}()
	res, err := c.Exec(t.Context(), ref, control.Exec{Cmd: "cat", Input: in}, writerSink{stdout})
	if err != nil || res.ExitCode != 3 {
		t.Errorf("ended with %+v, %v", res, err)
	}
	<-in.closed
}

// TestInputIsLeftWhenTheCommandEnds: a command that reads nothing ends the
// call, although its stdin continues.
func TestInputIsLeftWhenTheCommandEnds(t *testing.T) {
	t.Parallel()
	c, _ := connectTo(t, &agent{input: func(_ context.Context, s *inputStream) error {
		_, err := s.Receive()
		return errors.Join(err, s.Send(started()), s.Send(as(end(0, "exit status 0"))))
	}})
	in, _ := newPipeInput()
	if _, err := c.Exec(t.Context(), ref, control.Exec{Cmd: "true", Input: in}, &sink{}); err != nil {
		t.Error(err)
	}
	<-in.closed
}

// TestRefusedCommandReadsNoInput: the input can be given to a second attempt.
func TestRefusedCommandReadsNoInput(t *testing.T) {
	t.Parallel()
	c, _ := connectTo(t, &agent{input: func(_ context.Context, s *inputStream) error {
		_, err := s.Receive()
		return errors.Join(err, connect.NewError(connect.CodeFailedPrecondition, errors.New("paused")))
	}})
	in, stdin := newPipeInput()
	if _, err := c.Exec(t.Context(), ref, control.Exec{Cmd: "cat", Input: in}, &sink{}); err == nil {
		t.Error("no error")
	}
	go func() { _, _ = io.WriteString(stdin, "x") }()
	got := make([]byte, 1)
	if _, err := io.ReadFull(in, got); err != nil || got[0] != 'x' {
		t.Errorf("the input holds %q (%v) after a refusal, want all of it", got, err)
	}
}

// TestBrokenInputKillsTheCommand: the call ends with the input's own error.
func TestBrokenInputKillsTheCommand(t *testing.T) {
	t.Parallel()
	killed := make(chan struct{})
	c, _ := connectTo(t, &agent{input: func(ctx context.Context, s *inputStream) error {
		_, err := s.Receive()
		_ = errors.Join(err, s.Send(started()))
		<-ctx.Done()
		close(killed)
		return ctx.Err()
	}})
	in, stdin := newPipeInput()
	_ = stdin.CloseWithError(fault.New(fault.Invalid, "invalid_stdin", "no"))
	if _, err := c.Exec(t.Context(), ref, control.Exec{Cmd: "cat", Input: in}, &sink{}); fault.ReasonOf(err) != "invalid_stdin" {
		t.Errorf("got %v, want invalid_stdin", err)
	}
	<-killed
}

// TestCallerGoesWhileInputWaits: cancelling ends a call that waits for both
// sides, and does not look like the end of stdin.
func TestCallerGoesWhileInputWaits(t *testing.T) {
	t.Parallel()
	begun, ended := make(chan struct{}), make(chan error, 1)
	c, _ := connectTo(t, &agent{input: func(ctx context.Context, s *inputStream) error {
		_, err := s.Receive()
		_ = errors.Join(err, s.Send(started()))
		close(begun)
		m, err := s.Receive()
		if m.GetStdinEnd() {
			err = errors.New("the end of stdin")
		}
		<-ctx.Done()
		ended <- err
		return err
	}})
	in, _ := newPipeInput()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-begun
		cancel()
	}()
	if _, err := c.Exec(ctx, ref, control.Exec{Cmd: "cat", Input: in}, &sink{}); !fault.Is(err, fault.Canceled) {
		t.Errorf("got %v, want a canceled fault", err)
	}
	if err := <-ended; err == nil || err.Error() == "the end of stdin" {
		t.Errorf("the host saw %v, want a broken stream", err)
	}
}
