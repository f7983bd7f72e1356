package channel

import (
	"context"
	"errors"
	"io"
	"os"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/guest/filesystem"
	"github.com/wrenn-dev/wrenn/internal/guest/listener"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// smallFile is the size up to which a file goes out in one write.
const smallFile = 32 << 10

// readFile sends a file.
func (c *connection) readFile(ctx context.Context, message []byte) error {
	m, err := guestwire.ParseReadFileCall(message)
	if err != nil {
		return errMessage(err)
	}
	actor, err := c.agent.Actor(ctx, m.GetUser())
	if err != nil {
		return err
	}
	path, err := actor.Resolve(m.GetPath())
	if err != nil {
		return err
	}
	content, err := c.agent.Files().Open(path)
	if err != nil {
		return err
	}
	defer content.Close()
	info, err := cut(content, m)
	if err != nil {
		return err
	}
	c.out = guestwire.AppendFrame(c.out[:0], guestwire.Answer, func(b []byte) []byte { return guestwire.AppendFileInfo(b, info) })
	if content.Size > smallFile {
		if err := c.sendLarge(content); err != nil {
			return errors.Join(errHangUp, err)
		}
		return c.send(guestwire.End, nil)
	}
	if err := c.sendSmall(content); err != nil {
		return errors.Join(errHangUp, err)
	}
	c.out = guestwire.AppendFrame(c.out, guestwire.End, nil)
	return c.flush()
}

// cut limits content to the part that m asks for, and describes the rest of the answer. A file
// of unknown size, an empty one and one that has changed are sent whole.
func cut(content *filesystem.Content, m *guestv1.ReadFileCall) (*guestv1.FileInfo, error) {
	info := &guestv1.FileInfo{Size: content.Size, Tag: content.Tag, ModifiedUnixNano: content.ModifiedAt.UnixNano()}
	if !m.GetRanged() || content.Size <= 0 || m.GetIfTag() != "" && m.GetIfTag() != content.Tag {
		return info, nil
	}
	offset, err := content.Cut(m.GetOffset(), m.GetLength())
	if err != nil {
		return nil, err
	}
	info.Ranged, info.Offset, info.Total, info.Size = true, uint64(offset), uint64(info.Size), content.Size
	return info, nil
}

// sendSmall appends content to out, and writes in between only if it is longer
// than its size says, as with files that the kernel generates. It leaves the last
// piece in out.
func (c *connection) sendSmall(content *filesystem.Content) error {
	left := content.Size
	buf := make([]byte, smallFile)
	for left != 0 {
		limit := int64(len(buf))
		if left > 0 {
			limit = min(limit, left)
		}
		n, err := content.Read(buf[:limit])
		if n > 0 {
			if len(c.out) >= smallFile {
				if err := c.flush(); err != nil {
					return err
				}
				c.out = c.out[:0]
			}
			c.out = guestwire.AppendFrame(c.out, guestwire.Data, func(b []byte) []byte { return append(b, buf[:n]...) })
			if left > 0 {
				left -= int64(n)
			}
		}
		if errors.Is(err, io.EOF) && left < 0 {
			return nil
		}
		if err != nil {
			return err // also if the file has become shorter
		}
	}
	return nil
}

// sendLarge sends content of known size by sendfile(2).
func (c *connection) sendLarge(content *filesystem.Content) error {
	file, to := content.Seekable(), listener.Unwrap(c.conn)
	for left := content.Size; left > 0; {
		n := min(left, guestwire.MaxData)
		c.out = guestwire.AppendHeader(c.out, guestwire.Data, int(n))
		if err := c.flush(); err != nil {
			return err
		}
		c.out = c.out[:0]
		sent, err := io.Copy(to, &io.LimitedReader{R: file, N: n})
		if err != nil {
			return err
		}
		if sent != n {
			return os.ErrInvalid // the file has become shorter
		}
		left -= n
	}
	return nil
}
