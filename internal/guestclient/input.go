package guestclient

import (
	"context"
	"io"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// Input copies data to the stdin of the command with pid and then closes that stdin.
// It returns when the command has read everything, which may be never. The end of
// ctx ends the call, except for a blocked Read of data, which the caller must end. A
// command that has ended or closed its stdin is an error. Errors of data are
// returned unchanged.
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
