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
	"github.com/wrenn-dev/wrenn/internal/control/duplex"
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
//
// A read of the body cannot be interrupted before the answer has been sent. So fetch reads
// the body in a goroutine of its own, which starts with the first Read. It may be reading
// when the command has ended, see leave.
type execInput struct {
	request  *request
	exchange *duplex.Exchange
	lines    *bufio.Reader
	begin    sync.Once
	pieces   chan inputPiece // unbuffered
	closing  sync.Once
	closed   chan struct{}

	rest []byte // of the last piece
	err  error  // that ends the input
}

// inputPiece is the input of one line, or the error that ends the input.
type inputPiece struct {
	data []byte
	err  error
}

var _ control.Input = (*execInput)(nil)

// readExecLines reads the first line of a body of lines, and returns the rest
// as the command's input.
func readExecLines(w http.ResponseWriter, r *http.Request) (control.Exec, error) {
	if err := checkEncoding(r.Header); err != nil {
		return control.Exec{}, err
	}
	rc := http.NewResponseController(w)
	// The answer begins before the body ends.
	exchange, _, r := duplex.Begin(w, r)
	in := &execInput{
		request:  requestOf(r.Context()),
		exchange: exchange,
		lines:    bufio.NewReaderSize(r.Body, 64<<10),
		pieces:   make(chan inputPiece),
		closed:   make(chan struct{}),
	}
	_ = rc.SetReadDeadline(time.Now().Add(jsonReadTimeout))
	line, err := in.line()
	_ = rc.SetReadDeadline(time.Time{})
	if err != nil && !errors.Is(err, io.EOF) {
		return control.Exec{Input: in}, err
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
	in.begin.Do(func() { go in.fetch() })
	for len(in.rest) == 0 {
		if in.err != nil {
			return 0, in.err
		}
		select {
		case <-in.closed:
			return 0, io.ErrClosedPipe
		case piece := <-in.pieces:
			in.rest, in.err = piece.data, piece.err
		}
		if in.err != nil {
			in.request.effective.Store(!errors.Is(in.err, io.EOF))
		}
	}
	n := copy(p, in.rest)
	in.rest = in.rest[n:]
	return n, nil
}

// fetch reads the body line by line until it ends or the input is closed.
func (in *execInput) fetch() {
	for ended := false; !ended; {
		var piece inputPiece
		piece.err = fault.Caught(func() error {
			line, err := in.line()
			if err == nil {
				piece.data, err = decodeInput(line)
			}
			return err
		})
		ended = piece.err != nil
		select {
		case in.pieces <- piece:
		case <-in.closed:
			return
		}
	}
}

// Close ends a Read that waits. It always returns nil.
func (in *execInput) Close() error {
	in.closing.Do(func() { close(in.closed) })
	return nil
}

// leave ends the input and its body. It is the handler's last act. If aborted, the handler
// is about to panic.
func (in *execInput) leave(stall time.Duration, aborted bool) {
	_ = in.Close()
	in.exchange.End(min(stall, maxLinger), aborted)
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
		case err != nil && !errors.Is(err, io.EOF):
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
