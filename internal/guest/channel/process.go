package channel

import (
	"context"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// process does one operation on the processes with an id. If the peer hangs up while
// the operation waits, it ends.
func (c *connection) process(ctx context.Context, message []byte) error {
	m, err := guestwire.ParseProcessCall(message)
	if err != nil {
		return errMessage(err)
	}
	var answer *guestv1.ProcessAnswer
	err = c.whilePresent(ctx, func(ctx context.Context) error {
		answer, err = c.agent.CallProcess(ctx, m)
		return err
	})
	if err != nil {
		return err
	}
	return c.send(guestwire.Answer, func(b []byte) []byte { return guestwire.AppendProcessAnswer(b, answer) })
}

// attach sends the output of a process. If the peer hangs up, the stream ends and the
// process continues.
func (c *connection) attach(ctx context.Context, message []byte) error {
	m, err := guestwire.ParseAttachCall(message)
	if err != nil {
		return errMessage(err)
	}
	return c.whilePresent(ctx, func(ctx context.Context) error {
		return c.agent.Attach(ctx, m, func(e *guestv1.AttachEvent) error {
			return c.send(guestwire.Event, func(b []byte) []byte { return guestwire.AppendAttachEvent(b, e) })
		})
	})
}
