package process

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// input is the writing side of a command's stdin or terminal.
//
// Invariants: writers take turns, so that two callers' bytes never mix inside
// one write; a closed input stays closed.
type input struct {
	file *os.File
	// turn holds a token while nobody writes.
	turn chan struct{}
}

func newInput(file *os.File) *input {
	in := &input{file: file, turn: make(chan struct{}, 1)}
	in.turn <- struct{}{}
	return in
}

// write writes all of p. It waits while the command does not read, until ctx
// ends; then part of p may have been written.
func (in *input) write(ctx context.Context, p []byte) error {
	select {
	case <-in.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { in.turn <- struct{}{} }()
	stop := context.AfterFunc(ctx, func() { _ = in.file.SetWriteDeadline(time.Unix(1, 0)) })
	_, err := in.file.Write(p)
	if !stop() {
		_ = in.file.SetWriteDeadline(time.Time{})
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return context.Cause(ctx)
	case errors.Is(err, os.ErrClosed), errors.Is(err, unix.EPIPE), errors.Is(err, unix.EIO):
		return fault.Wrap(err, fault.WrongState, "stdin_closed", "the process no longer reads its input")
	default:
		return fault.Wrap(err, fault.Internal, "internal", "the input could not be written")
	}
}
