package guestclient

import (
	"context"
	"io"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// Input writes what data yields to the stdin of the command with pid, piece by
// piece, and closes it at data's end. It returns when the command has taken
// everything, which may be never: ctx ends it, but not a Read that waits, which
// the caller must end. A command that has closed its stdin or has ended is an
// error, and so is one of data.
func (c *Client) Input(ctx context.Context, pid uint32, data io.Reader) error {
	x, err := c.open(ctx)
	if err != nil {
		return err
	}
	if err := x.call(guestwire.Input, &guestv1.InputCall{Pid: pid}); err != nil {
		return err
	}
	_, err = x.send(data)
	return err
}
