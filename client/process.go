package client

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/api/types"
)

// Process is a command that outlives the calls that use it.
type Process = types.Process

// ProcessRequest is a process to start.
type ProcessRequest = types.ProcessRequest

// ProcessSignalRequest is a signal for a process.
type ProcessSignalRequest = types.ProcessSignalRequest

// ProcessSocketEvent is a text message of the server on a WebSocket of a process.
type ProcessSocketEvent = types.ProcessSocketEvent

// TerminalSize is the size of a terminal in characters.
type TerminalSize = types.TerminalSize

// The values of Process.Status, and of OnFull.
const (
	ProcessRunning = "running"
	ProcessExited  = "exited"

	// OnFullTruncate drops the oldest output if no attached reader keeps up.
	OnFullTruncate = "truncate"
	// OnFullBlock makes the process wait until its output is acknowledged.
	OnFullBlock = "block"
)

// processPath returns the URL path of a process, or of a part of it.
func processPath(sandbox, process, rest string) (string, error) {
	if process == "" || strings.Trim(process, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return "", fmt.Errorf("client: %q is not the id of a process", process)
	}
	return sandboxPath(sandbox, "/processes/"+process+rest)
}

// StartProcess starts a process and returns once it runs. It continues after the call,
// and its output is kept; Attach reads it.
func (c *Client) StartProcess(ctx context.Context, id string, in ProcessRequest) (*Process, error) {
	path, err := sandboxPath(id, "/processes")
	if err != nil {
		return nil, err
	}
	out := new(Process)
	if _, err := c.call(ctx, request{method: http.MethodPost, path: path}, in, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Processes returns the processes of a sandbox, running and ended, the oldest first.
func (c *Client) Processes(ctx context.Context, id string) ([]Process, error) {
	path, err := sandboxPath(id, "/processes")
	if err != nil {
		return nil, err
	}
	var out []Process
	_, err = c.call(ctx, request{method: http.MethodGet, path: path}, nil, &out)
	return out, err
}

// Process returns a process. It is an *Error with the code "process_not_found" if it
// was never started there or ended too long ago.
func (c *Client) Process(ctx context.Context, id, process string) (*Process, error) {
	return c.onProcess(ctx, id, process, "", request{method: http.MethodGet}, nil)
}

// WaitProcess returns the process once it has ended, also after hours. A pause of the
// sandbox is an *Error with the code "sandbox_paused".
func (c *Client) WaitProcess(ctx context.Context, id, process string) (*Process, error) {
	for {
		r := request{method: http.MethodGet, query: url.Values{"timeout_sec": {"300"}}}
		p, err := c.onProcess(ctx, id, process, "/wait", r, nil)
		if err != nil || p.Status != ProcessRunning {
			return p, err
		}
	}
}

// WriteProcess writes at most 1 MiB to the input of a process and returns once the
// process has taken it.
func (c *Client) WriteProcess(ctx context.Context, id, process string, data []byte) error {
	r := request{
		method: http.MethodPost, header: http.Header{"Content-Type": {"application/octet-stream"}},
		body: bytes.NewReader(data), length: int64(len(data)),
	}
	_, err := c.onProcess(ctx, id, process, "/stdin", r, nil)
	return err
}

// CloseProcessStdin ends the input of a process without a terminal.
func (c *Client) CloseProcessStdin(ctx context.Context, id, process string) error {
	_, err := c.onProcess(ctx, id, process, "/stdin", request{method: http.MethodDelete}, nil)
	return err
}

// SignalProcess sends a signal to a process.
func (c *Client) SignalProcess(ctx context.Context, id, process string, in ProcessSignalRequest) error {
	_, err := c.onProcess(ctx, id, process, "/signal", request{method: http.MethodPost}, in)
	return err
}

// ResizeProcess changes the size of the terminal of a process.
func (c *Client) ResizeProcess(ctx context.Context, id, process string, size TerminalSize) error {
	_, err := c.onProcess(ctx, id, process, "/resize", request{method: http.MethodPost}, size)
	return err
}

// AcknowledgeProcess tells that the output before offset has arrived.
func (c *Client) AcknowledgeProcess(ctx context.Context, id, process string, offset int64) error {
	_, err := c.onProcess(ctx, id, process, "/ack", request{method: http.MethodPost}, types.ProcessAckRequest{Offset: offset})
	return err
}

// onProcess does r on a part of a process.
func (c *Client) onProcess(ctx context.Context, id, process, part string, r request, in any) (*Process, error) {
	path, err := processPath(id, process, part)
	if err != nil {
		return nil, err
	}
	r.path = path
	out := new(Process)
	if _, err := c.call(ctx, r, in, out); err != nil {
		return nil, err
	}
	return out, nil
}

// offsetParam returns the query of an attach.
func offsetParam(offset int64, explicit bool) url.Values {
	q := url.Values{"offset": {strconv.FormatInt(offset, 10)}}
	if explicit {
		q.Set("ack", "explicit")
	}
	return q
}
