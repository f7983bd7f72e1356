package channel

import (
	"bufio"
	"context"
	"errors"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// packBytes is the size of the Data frames of an archive.
const packBytes = 96 << 10

// pack sends a directory or a file as an archive. A failure amid the data is sent
// instead of End.
func (c *connection) pack(ctx context.Context, message []byte) error {
	m, err := guestwire.ParsePackCall(message)
	if err != nil {
		return errMessage(err)
	}
	actor, err := c.agent.Actor(ctx, "")
	if err != nil {
		return err
	}
	path, err := actor.Resolve(m.GetPath())
	if err != nil {
		return err
	}
	packed, err := c.agent.Files().OpenPacked(path)
	if err != nil {
		return err
	}
	defer packed.Close()
	err = c.send(guestwire.Answer, func(b []byte) []byte { return guestwire.AppendFileInfo(b, &guestv1.FileInfo{Size: -1}) })
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(frames{c}, packBytes)
	if err := packed.Write(ctx, out); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return c.send(guestwire.End, nil)
}

// frames is a writer of Data frames, each of one write.
type frames struct{ connection *connection }

// Write implements io.Writer.
func (f frames) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		size := min(len(p), guestwire.MaxData)
		err := f.connection.send(guestwire.Data, func(b []byte) []byte { return append(b, p[:size]...) })
		if err != nil {
			return n, err
		}
		n, p = n+size, p[size:]
	}
	return n, nil
}

// unpack writes the archive that follows.
func (c *connection) unpack(ctx context.Context, message []byte) error {
	m, err := guestwire.ParseUnpackCall(message)
	if err != nil {
		return errMessage(err)
	}
	actor, err := c.agent.Actor(ctx, m.GetUser())
	if err != nil {
		return err
	}
	if m.GetPreserve() && actor.UID != 0 {
		return fault.New(fault.Invalid, "invalid_user", "only root can keep the owners of an archive")
	}
	path, err := actor.Resolve(m.GetPath())
	if err != nil {
		return err
	}
	body := &dataFrames{ctx: ctx, connection: c}
	err = c.agent.Files().Unpack(ctx, path, actor.Owner(), m.GetPreserve(), body)
	switch {
	case err == nil:
		return c.send(guestwire.Answer, nil)
	case errors.Is(err, errHangUp):
		return errHangUp
	case body.begun:
		return c.failAmidData(err)
	default:
		return err
	}
}
