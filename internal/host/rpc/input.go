package rpc

import (
	"context"
	"errors"
	"io"
	"sync"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
)

// inputStream is the stream of an Exec with input.
type inputStream = connect.BidiStream[hostv1.ExecWithInputRequest, hostv1.ExecWithInputResponse]

// ExecWithInput runs a command and streams its stdin and its events.
func (s *service) ExecWithInput(ctx context.Context, stream *inputStream) error {
	first, err := stream.Receive()
	if err != nil {
		return faultrpc.ToConnect(errors.Join(fault.New(fault.Invalid, "invalid", "the first message must be `exec`"), err))
	}
	ref, err := toRef(first.GetExec().GetRef())
	if err != nil {
		return faultrpc.ToConnect(err)
	}
	e := toExec(first.GetExec())
	e.Input = &stdinStream{stream: stream, pieces: make(chan []byte), closed: make(chan struct{})}
	defer e.Input.Close()
	err = s.manager.Exec(ctx, ref, e, func(event *process.ProcessEvent) error {
		return stream.Send(&hostv1.ExecWithInputResponse{Event: event})
	})
	if err != nil {
		return s.fail(ctx, "ExecWithInput", err)
	}
	return nil
}

// stdinStream is the stdin that a caller sends. One goroutine reads it; Close
// may be called from any.
//
// A Receive cannot be interrupted, so a goroutine of its own waits in it, from
// the first Read on. It ends when the handler has returned, at the latest.
type stdinStream struct {
	stream *inputStream
	begin  sync.Once
	pieces chan []byte // unbuffered: a piece waits until the command takes it
	err    error       // valid once pieces is closed
	rest   []byte

	closing sync.Once
	closed  chan struct{}
}

// Read implements io.Reader. It ends with io.EOF when the caller has closed
// stdin, and with another error when the caller has gone.
func (r *stdinStream) Read(p []byte) (int, error) {
	r.begin.Do(func() {
		go func() { _ = fault.Caught(func() error { r.receive(); return nil }) }()
	})
	for len(r.rest) == 0 {
		select {
		case <-r.closed:
			return 0, io.ErrClosedPipe
		case piece, ok := <-r.pieces:
			if !ok {
				return 0, r.err
			}
			r.rest = piece
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Close ends a Read that waits. It never fails.
func (r *stdinStream) Close() error {
	r.closing.Do(func() { close(r.closed) })
	return nil
}

func (r *stdinStream) receive() {
	defer close(r.pieces)
	r.err = io.ErrUnexpectedEOF // also after a panic
	for {
		m, err := r.stream.Receive()
		switch {
		case errors.Is(err, io.EOF):
			r.err = io.ErrUnexpectedEOF // half a script must not look like a whole one
			return
		case err != nil:
			r.err = err
			return
		case m.GetStdinEnd():
			r.err = io.EOF
			return
		}
		select {
		case r.pieces <- m.GetStdin():
		case <-r.closed:
			r.err = io.ErrClosedPipe
			return
		}
	}
}
