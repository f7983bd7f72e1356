package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// ExecRequest is one command.
type ExecRequest struct {
	// Cmd is looked up in the sandbox's PATH. There is no shell: for one, run
	// "sh" with the arguments "-c" and the script.
	Cmd  string
	Args []string
	// Env is added to the sandbox's environment.
	Env map[string]string
	// Cwd and User are the guest's defaults when empty.
	Cwd, User string
	// Stdin is the standard input of the command. A request may have 1 MiB in
	// total, which leaves about 700 KiB for binary input.
	Stdin []byte
	// Input replaces Stdin by a stream without a size limit. It is read until
	// the command has ended. A Read in progress may then outlive the call, so
	// Input must tolerate that.
	Input io.Reader
	// Timeout is the time after which the command is killed with all its
	// processes. It is rounded up to seconds; 0 is the server's default.
	Timeout time.Duration
}

// ExecResult is the result of a command.
type ExecResult struct {
	// Stdout and Stderr are empty for ExecStream.
	Stdout, Stderr []byte
	// StdoutTruncated and StderrTruncated tell that the output exceeded the
	// limit of collected output. ExecStream has no such limit.
	StdoutTruncated, StderrTruncated bool
	// ExitCode is the exit code of the command; 128 + n if signal n ended it.
	ExitCode int
	// Signal is the name of the signal that ended the command; empty if none
	// did.
	Signal string
	// OutOfMemory: the command failed after the sandbox ended a process of it
	// because the memory of the sandbox was used up.
	OutOfMemory bool
	// Duration is the run time of the command.
	Duration time.Duration
	// Timeout is the timeout of the command; zero for ExecStream.
	Timeout time.Duration
}

const (
	encodingBase64 = "base64"
	ndjson         = "application/x-ndjson"
)

// Exec runs a command to its end and returns its collected output. A non-zero
// exit code is not an error. A command that exceeds its Timeout is an *Error
// with the code "exec_timeout" and its output in Partial. Cancelling ctx kills
// the command.
func (c *Client) Exec(ctx context.Context, id string, in ExecRequest) (*ExecResult, error) {
	path, err := sandboxPath(id, "/exec")
	if err != nil {
		return nil, err
	}
	var out wireExec
	r := request{method: http.MethodPost, path: path}
	if err := in.encode(ctx, &r); err != nil {
		return nil, err
	}
	defer r.closeBody()
	if _, err := c.call(ctx, r, nil, &out); err != nil {
		return nil, err
	}
	return out.result()
}

// ExecStream runs a command to its end and writes its output to stdout and
// stderr as it comes. An error from either writer ends the command and is
// returned.
func (c *Client) ExecStream(ctx context.Context, id string, in ExecRequest, stdout, stderr io.Writer) (*ExecResult, error) {
	path, err := sandboxPath(id, "/exec")
	if err != nil {
		return nil, err
	}
	r := request{method: http.MethodPost, path: path, header: http.Header{"Accept": {ndjson}}}
	if err := in.encode(ctx, &r); err != nil {
		return nil, err
	}
	defer r.closeBody()
	resp, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	events := json.NewDecoder(resp.Body)
	for {
		var ev execEvent
		if err := events.Decode(&ev); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("client: the stream broke off before the command ended: %w", err)
		}
		res, err := ev.deliver(stdout, stderr, resp.Header.Get("X-Request-Id"))
		if res != nil || err != nil {
			return res, err
		}
	}
}

// execEvent is one line of a streamed exec.
type execEvent struct {
	Type       string    `json:"type"`
	Data       string    `json:"data"`
	Encoding   string    `json:"encoding"`
	ExitCode   int       `json:"exit_code"`
	Signal     *string   `json:"signal"`
	OOM        bool      `json:"oom"`
	DurationMS int64     `json:"duration_ms"`
	Error      wireError `json:"error"`
}

// deliver passes on an event; a result or an error ends the stream. Unknown
// types, which later servers may add, are skipped.
func (ev *execEvent) deliver(stdout, stderr io.Writer, requestID string) (*ExecResult, error) {
	switch ev.Type {
	case "stdout", "stderr":
		p, err := decodeOutput(ev.Data, ev.Encoding)
		if err != nil {
			return nil, err
		}
		if ev.Type == "stderr" {
			stdout = stderr
		}
		_, err = stdout.Write(p)
		return nil, err
	case "exit":
		return &ExecResult{ExitCode: ev.ExitCode, Signal: deref(ev.Signal), OutOfMemory: ev.OOM, Duration: ms(ev.DurationMS)}, nil
	case "error":
		return nil, (&Error{RequestID: requestID}).fill(ev.Error)
	default:
		return nil, nil
	}
}

// wireExecRequest is the JSON form of an ExecRequest.
type wireExecRequest struct {
	Cmd           string            `json:"cmd"`
	Args          []string          `json:"args,omitempty"`
	Env           map[string]string `json:"env,omitempty"`
	Cwd           string            `json:"cwd,omitempty"`
	User          string            `json:"user,omitempty"`
	Stdin         string            `json:"stdin,omitempty"`
	StdinEncoding string            `json:"stdin_encoding,omitempty"`
	TimeoutSec    int64             `json:"timeout_sec,omitempty"`
}

func (in ExecRequest) wire() wireExecRequest {
	w := wireExecRequest{
		Cmd: in.Cmd, Args: in.Args, Env: in.Env, Cwd: in.Cwd, User: in.User,
		TimeoutSec: int64((in.Timeout + time.Second - 1) / time.Second),
	}
	if len(in.Stdin) > 0 {
		w.Stdin, w.StdinEncoding = base64.StdEncoding.EncodeToString(in.Stdin), encodingBase64
	}
	return w
}

// wireExec is the JSON form of an ExecResult.
type wireExec struct {
	Stdout          string  `json:"stdout"`
	Stderr          string  `json:"stderr"`
	Encoding        string  `json:"encoding"`
	ExitCode        int     `json:"exit_code"`
	Signal          *string `json:"signal"`
	OOM             bool    `json:"oom"`
	DurationMS      int64   `json:"duration_ms"`
	TimeoutSec      int64   `json:"timeout_sec"`
	StdoutTruncated bool    `json:"stdout_truncated"`
	StderrTruncated bool    `json:"stderr_truncated"`
}

func (w wireExec) result() (*ExecResult, error) {
	stdout, err := decodeOutput(w.Stdout, w.Encoding)
	if err != nil {
		return nil, err
	}
	stderr, err := decodeOutput(w.Stderr, w.Encoding)
	if err != nil {
		return nil, err
	}
	return &ExecResult{
		Stdout: stdout, Stderr: stderr,
		StdoutTruncated: w.StdoutTruncated, StderrTruncated: w.StderrTruncated,
		ExitCode: w.ExitCode, Signal: deref(w.Signal), OutOfMemory: w.OOM, Duration: ms(w.DurationMS),
		Timeout: time.Duration(w.TimeoutSec) * time.Second,
	}, nil
}

func decodeOutput(data, encoding string) ([]byte, error) {
	if encoding != encodingBase64 {
		return []byte(data), nil
	}
	p, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		return nil, fmt.Errorf("client: the output is not base64 as announced: %w", err)
	}
	return p, nil
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
