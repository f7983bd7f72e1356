package rest

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// A request of the type application/x-ndjson has the ExecRequest as its first
// line, and its stdin in the lines that follow, each a StdinEvent. They are
// read while the command runs, no faster than the command reads them; the end
// of the body closes stdin.

// maxInputLine bounds a line of the body, in bytes.
const maxInputLine = maxJSONBytes

// execInput is the stdin in the body of a request. One goroutine reads it;
// Close may be called from any.
type execInput struct {
	request *request
	rc      *http.ResponseController
	lines   *bufio.Reader
	rest    []byte

	mu    sync.Mutex // protects the following
	ended bool       // the body has been read to its end
}

var _ control.Input = (*execInput)(nil)

// readExecLines reads the first line of a body of lines, and returns the rest
// as the command's input.
func readExecLines(w http.ResponseWriter, r *http.Request) (control.Exec, error) {
	if err := checkEncoding(r.Header); err != nil {
		return control.Exec{}, err
	}
	rc := http.NewResponseController(w)
	// With HTTP/1 the answer begins before the body ends. HTTP/2, and writers
	// in tests that are not connections, do not have this switch and do not
	// need it.
	_ = rc.EnableFullDuplex()
	in := &execInput{request: requestOf(r.Context()), rc: rc, lines: bufio.NewReaderSize(r.Body, 64<<10)}
	_ = rc.SetReadDeadline(time.Now().Add(jsonReadTimeout))
	line, err := in.line()
	_ = rc.SetReadDeadline(time.Time{})
	if err != nil && !errors.Is(err, io.EOF) {
		return control.Exec{}, err
	}
	e, err := decodeExec(func(f fields) error { return decodeObject(line, f) })
	if err == nil && len(e.Stdin) > 0 {
		err = fault.New(fault.Invalid, "invalid_stdin", "send stdin in the lines after the first one, not in the field stdin")
	}
	e.Input = in
	return e, err
}

// Read implements io.Reader. The command has begun when its stdin is read, so
// the request of a bad line has taken effect.
func (in *execInput) Read(p []byte) (int, error) {
	for len(in.rest) == 0 {
		line, err := in.line()
		if err == nil {
			in.rest, err = decodeInput(line)
		}
		if err != nil {
			in.request.effective.Store(!errors.Is(err, io.EOF))
			return 0, err
		}
	}
	n := copy(p, in.rest)
	in.rest = in.rest[n:]
	return n, nil
}

// Close ends a Read that waits. It always returns nil.
func (in *execInput) Close() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.ended {
		_ = in.rc.SetReadDeadline(time.Unix(1, 0))
	}
	return nil
}

// line returns the next line that is not empty, or io.EOF.
func (in *execInput) line() ([]byte, error) {
	var line []byte
	for {
		piece, err := in.lines.ReadSlice('\n')
		line = append(line, piece...)
		switch {
		case len(line) > maxInputLine:
			return nil, fault.New(fault.TooLarge, "body_too_large", "a line of the body may have at most %d bytes", maxInputLine)
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			in.mu.Lock()
			in.ended = true
			in.mu.Unlock()
		case err != nil:
			return nil, fault.Wrap(err, fault.Canceled, "canceled", "the body did not arrive whole")
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, nil
		}
		if err != nil {
			return nil, io.EOF
		}
	}
}

// decodeInput decodes a StdinEvent.
func decodeInput(line []byte) ([]byte, error) {
	var kind, data string
	encoding := "utf-8"
	if err := decodeObject(line, fields{"type": &kind, "data": &data, "encoding": &encoding}); err != nil {
		return nil, err
	}
	if kind != "stdin" {
		return nil, fault.New(fault.Invalid, "invalid_stdin", "each line after the first must have the type stdin")
	}
	return decodeStdin(data, encoding)
}
