package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// maxSilence is the time without a byte after which a stream has broken without a sign,
// as while this machine slept. The server sends something every 15 seconds.
const maxSilence = time.Minute

// maxEventLine bounds a line of an event, in bytes. The server sends pieces of 32 KiB.
const maxEventLine = 1 << 20

// sentEvents reads a stream of server-sent events. One goroutine uses it; Close may be
// called from any.
type sentEvents struct {
	body      io.ReadCloser
	lines     *bufio.Scanner
	requestID string
	typ       string // the Content-Type of the answer
	cancel    context.CancelFunc
	silence   *time.Timer // ends the stream
}

// openEvents sends r and returns its answer, a stream of events.
func (c *Client) openEvents(ctx context.Context, r request) (*sentEvents, error) {
	ctx, cancel := context.WithCancel(ctx)
	if r.header == nil {
		r.header = http.Header{}
	}
	r.header.Set("Accept", "text/event-stream")
	resp, err := c.send(ctx, r)
	if err != nil {
		cancel()
		return nil, err
	}
	e := &sentEvents{
		body: resp.Body, lines: bufio.NewScanner(resp.Body), requestID: resp.Header.Get("X-Request-Id"),
		typ:    resp.Header.Get("Content-Type"),
		cancel: cancel, silence: time.AfterFunc(maxSilence, cancel),
	}
	e.lines.Buffer(make([]byte, 0, 64<<10), maxEventLine)
	return e, nil
}

// are reports whether the answer has events.
func (e *sentEvents) are() bool { return strings.HasPrefix(e.typ, "text/event-stream") }

// next returns the name and the data of the next event. data is valid until the next
// call. A stream that ends has broken.
func (e *sentEvents) next() (name string, data []byte, err error) {
	e.silence.Reset(maxSilence)
	for e.lines.Scan() {
		e.silence.Reset(maxSilence)
		line := e.lines.Bytes()
		switch {
		case len(line) == 0 && name != "":
			return name, data, nil
		case bytes.HasPrefix(line, []byte("event: ")):
			name = string(line[len("event: "):])
		case bytes.HasPrefix(line, []byte("data: ")):
			data = append(data[:0], line[len("data: "):]...)
		}
	}
	if err := e.lines.Err(); err != nil {
		return "", nil, err
	}
	return "", nil, io.ErrUnexpectedEOF
}

// failure returns the failure in the data of an event.
func (e *sentEvents) failure(data []byte) error {
	var failure struct{ Error wireError }
	if err := json.Unmarshal(data, &failure); err != nil {
		return badEvent(err)
	}
	return (&Error{RequestID: e.requestID}).fill(failure.Error)
}

func badEvent(err error) error {
	return fmt.Errorf("client: an event is not what the API promises: %w", err)
}

// Close ends the stream, and nothing in the sandbox.
func (e *sentEvents) Close() error {
	e.silence.Stop()
	e.cancel()
	return e.body.Close()
}
