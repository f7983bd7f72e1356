package host

import (
	"context"
	"errors"
	"io"
	"syscall"
	"time"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

const (
	// startID is the id of the process of a template's start command. It is in the list of
	// processes of every sandbox of the template.
	startID = "start"
	// readyEvery is the pause between two runs of a ready command, and readyRun bounds one.
	readyEvery = 500 * time.Millisecond
	readyRun   = 30 * time.Second
	// startTail is how much of the output of a failed start an error shows, in bytes.
	startTail = 1024
	// startEnd bounds the end of a failed start and the reading of its output.
	startEnd = 10 * time.Second
)

// templateStart runs the start command of a template in a guest.
type templateStart struct {
	sandbox.StartCommand
	// text is the command as its author wrote it.
	text     string
	template string
	guest    *guestclient.Client
}

// newTemplateStart returns the start of a template image.
func newTemplateStart(start image.Start, template string, guest *guestclient.Client) templateStart {
	return templateStart{StartCommand: startCommandOf(start), text: start.Command, template: template, guest: guest}
}

// startCommandOf returns the start command of a template image. Its Command is empty if
// the template has none.
func startCommandOf(start image.Start) sandbox.StartCommand {
	login := func(command string) []string {
		if command == "" {
			return nil
		}
		return []string{"/bin/bash", "-l", "-c", command}
	}
	return sandbox.StartCommand{
		ID: startID, User: start.User, Dir: start.Dir,
		Command: login(start.Command), Ready: login(start.Ready), ReadyTimeout: start.Timeout(),
	}
}

// run starts the command and waits until the ready command succeeds. The error is
// HostFailed template_start_failed and shows the command and the end of its output.
func (s templateStart) run(ctx context.Context) error {
	if len(s.Command) == 0 {
		return nil
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	err := s.awaitReady(ctx)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return s.failure(ctx, err)
}

// begin starts the command.
func (s templateStart) begin(ctx context.Context) error {
	start := &guestv1.StartProcess{Id: s.ID, User: s.User, Start: s.request(s.Command)}
	_, err := s.guest.CallProcess(ctx, &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Start{Start: start}})
	return err
}

// request returns the request that runs a command of a template.
func (s templateStart) request(command []string) *process.StartRequest {
	config := &process.ProcessConfig{Cmd: command[0], Args: command[1:]}
	if s.Dir != "" {
		config.Cwd = &s.Dir
	}
	return &process.StartRequest{Process: config, Stdin: new(bool)}
}

var (
	errStartEnded = errors.New("it ended before it was ready")
	errNotReady   = errors.New("it was not ready in time")
)

// awaitReady runs the ready command until it succeeds. A start command that ends with 0
// has done its work; any other end is errStartEnded.
func (s templateStart) awaitReady(ctx context.Context) error {
	if len(s.Ready) == 0 {
		return nil
	}
	deadline := time.Now().Add(s.ReadyTimeout)
	pause := time.NewTicker(readyEvery)
	defer pause.Stop()
	for {
		code, err := s.once(ctx, s.request(s.Ready))
		if code == 0 && err == nil {
			return nil
		}
		switch err := s.awaitEnd(ctx, 0); {
		case err != nil:
			return err
		case time.Now().After(deadline):
			return errNotReady
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// awaitEnd waits for the end of the start command, at most within. An end other than with 0
// is errStartEnded.
func (s templateStart) awaitEnd(ctx context.Context, within time.Duration) error {
	record, err := s.record(ctx, within)
	if err == nil && record.GetEndedUnixNano() != 0 && (record.GetExitCode() != 0 || record.GetSignal() != 0) {
		return errStartEnded
	}
	return err
}

// once runs a command to its end and returns its exit code.
func (s templateStart) once(ctx context.Context, command *process.StartRequest) (code int32, err error) {
	stream, err := s.guest.Start(ctx, command, guestclient.StartOptions{User: s.User, Timeout: readyRun, Unrecorded: true})
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	code = -1
	for {
		event, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return code, nil
		}
		if err != nil {
			return 0, err
		}
		if end := event.GetEnd(); end != nil {
			code = end.GetExitCode()
		}
	}
}

// record returns the record of the start command's process: at its end if that comes within
// the time wait, otherwise after that time.
func (s templateStart) record(ctx context.Context, wait time.Duration) (*guestv1.ProcessRecord, error) {
	get := &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Get{Get: &guestv1.GetProcess{Id: s.ID, WaitMs: uint32(wait.Milliseconds())}}}
	answer, err := s.guest.CallProcess(ctx, get)
	if err != nil {
		return nil, err
	}
	return answer.GetProcesses()[0], nil
}

// failure ends the start command and describes it.
func (s templateStart) failure(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(ctx, startEnd)
	defer cancel()
	signal := &guestv1.SignalProcess{Id: s.ID, Signal: uint32(syscall.SIGKILL), All: true}
	// It may have ended already.
	_, _ = s.guest.CallProcess(ctx, &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Signal{Signal: signal}})
	return fault.Wrap(cause, fault.HostFailed, "template_start_failed", "the start command of the template %s, %q, failed: %s; the end of its output: %q",
		s.template, untrusted.Line(s.text, 200), cause, untrusted.Line(s.output(ctx), startTail))
}

// output returns the end of the output of the start command, which has ended.
func (s templateStart) output(ctx context.Context) string {
	record, err := s.record(ctx, 0)
	if err != nil {
		return ""
	}
	from := max(record.GetOutputStart(), record.GetOutputEnd()-min(record.GetOutputEnd(), startTail))
	a, err := s.guest.Attach(ctx, &guestv1.AttachCall{Id: s.ID, Offset: int64(from)})
	if err != nil {
		return ""
	}
	defer a.Close()
	var out []byte
	for {
		event, err := a.Receive()
		if err != nil {
			return string(out)
		}
		out = append(out, event.GetPiece().GetData()...)
		out = out[max(0, len(out)-startTail):]
	}
}
