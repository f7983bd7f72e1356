package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"sync"
)

// encode makes in the body of r: JSON or, with an Input, lines of it. Input is
// read until ctx ends or the body is closed.
func (in ExecRequest) encode(ctx context.Context, r *request) error {
	if in.Input == nil {
		return r.setJSON(in.wire())
	}
	first, err := json.Marshal(in.wire())
	if err != nil {
		return err
	}
	if r.header == nil {
		r.header = http.Header{}
	}
	r.header.Set("Content-Type", ndjson)
	r.body = &inputLines{
		ctx: ctx, src: in.Input, out: bytes.NewBuffer(append(first, '\n')),
		pieces: make(chan []byte), taken: make(chan struct{}), closed: make(chan struct{}),
	}
	return nil
}

// closeBody ends a read that waits for input after the command has ended.
func (r *request) closeBody() {
	if c, ok := r.body.(io.Closer); ok {
		_ = c.Close()
	}
}

// inputBytes is the number of input bytes in one line.
const inputBytes = 32 << 10

// inputLines is the body of an exec with input: the lines in out, then one for
// each piece that src yields. One goroutine reads it; Close may be called from
// any.
//
// A Read of src cannot be interrupted, so it runs in a goroutine of its own,
// which starts with the first Read beyond out.
type inputLines struct {
	ctx   context.Context // of the request that this is the body of
	src   io.Reader
	out   *bytes.Buffer
	begin sync.Once

	pieces chan []byte   // unbuffered, each in the same memory
	taken  chan struct{} // says that a piece has been used
	err    error         // valid once pieces is closed

	closing sync.Once
	closed  chan struct{}
}

// Read implements io.Reader.
func (l *inputLines) Read(p []byte) (int, error) {
	if l.out.Len() > 0 {
		return l.out.Read(p)
	}
	l.begin.Do(func() { go l.fetch() })
	select {
	case <-l.ctx.Done():
		return 0, l.ctx.Err()
	case <-l.closed:
		return 0, io.ErrClosedPipe
	case piece, ok := <-l.pieces:
		if !ok {
			return 0, l.err
		}
		l.encode(piece)
		l.taken <- struct{}{}
		return l.out.Read(p)
	}
}

// encode writes the line for a piece of input.
func (l *inputLines) encode(piece []byte) {
	l.out.WriteString(`{"type":"stdin","encoding":"base64","data":"`)
	enc := base64.NewEncoder(base64.StdEncoding, l.out)
	_, _ = enc.Write(piece) // a buffer takes everything
	_ = enc.Close()
	l.out.WriteString("\"}\n")
}

// Close ends a Read that waits. It never fails.
func (l *inputLines) Close() error {
	l.closing.Do(func() { close(l.closed) })
	return nil
}

// fetch reads src piece by piece.
func (l *inputLines) fetch() {
	defer close(l.pieces)
	buf := make([]byte, inputBytes)
	for l.err == nil {
		var n int
		if n, l.err = l.src.Read(buf); n == 0 {
			continue
		}
		select {
		case l.pieces <- buf[:n]:
			<-l.taken
		case <-l.closed:
			l.err = io.ErrClosedPipe
		case <-l.ctx.Done():
			l.err = l.ctx.Err()
		}
	}
}
