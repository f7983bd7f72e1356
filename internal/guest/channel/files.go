package channel

import (
	"context"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// file does one operation on the names of the file system. If the peer hangs up, an
// operation on a whole tree ends.
func (c *connection) file(ctx context.Context, message []byte) error {
	m, err := guestwire.ParseFileCall(message)
	if err != nil {
		return errMessage(err)
	}
	var answer *guestv1.FileAnswer
	err = c.whilePresent(ctx, func(ctx context.Context) error {
		answer, err = c.agent.CallFile(ctx, m)
		return err
	})
	if err != nil {
		return err
	}
	return c.send(guestwire.Answer, func(b []byte) []byte { return guestwire.AppendFileAnswer(b, answer) })
}

// watchFiles sends the changes in a directory until the peer hangs up or the directory
// goes.
func (c *connection) watchFiles(ctx context.Context, message []byte) error {
	m, err := guestwire.ParseWatchFilesCall(message)
	if err != nil {
		return errMessage(err)
	}
	return c.whilePresent(ctx, func(ctx context.Context) error {
		return c.agent.WatchFiles(ctx, m, func(e *guestv1.WatchFilesEvent) error {
			return c.send(guestwire.Event, func(b []byte) []byte { return guestwire.AppendWatchFilesEvent(b, e) })
		})
	})
}
