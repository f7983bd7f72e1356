package guestclient

import (
	"bytes"
	"context"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// Input writes data to the stdin of the command with pid and closes it. It
// returns when the command has taken everything, which may be never: ctx ends
// it. A command that has closed its stdin or has ended is an error.
func (c *Client) Input(ctx context.Context, pid uint32, data []byte) error {
	x, err := c.open(ctx)
	if err != nil {
		return err
	}
	if err := x.call(guestwire.Input, &guestv1.InputCall{Pid: pid}); err != nil {
		return err
	}
	_, err = x.send(bytes.NewReader(data))
	return err
}
