package channel

import (
	"context"
	"errors"
	"os"
	"time"

	pb "github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/internal/guest/agent"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// exec runs a command and sends its events. If the peer hangs up, the stream ends
// and the command continues.
func (c *connection) exec(ctx context.Context, message []byte) error {
	m, err := guestwire.ParseExecCall(message)
	if err != nil {
		return errMessage(err)
	}
	req := m.GetStart()
	if req == nil {
		req = &pb.StartRequest{}
	}
	return c.whilePresent(ctx, func(ctx context.Context) error {
		return c.agent.Run(ctx, agent.Command{
			User: m.GetUser(), Request: req, Ticket: m.GetTicket(), Keepalive: agent.DefaultKeepalive,
			Unrecorded: m.GetUnrecorded(),
			Lifetime:   time.Duration(min(m.GetTimeoutMs(), maxLifetimeMS)) * time.Millisecond,
		}, func(e *pb.ProcessEvent) error {
			return c.send(guestwire.Event, func(b []byte) []byte { return guestwire.AppendEvent(b, e) })
		})
	})
}

// whilePresent calls do with a context that ends when the peer hangs up.
func (c *connection) whilePresent(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch := c.watch(cancel)
	err := do(ctx)
	if !watch.stop() {
		return errHangUp
	}
	return err
}

// maxLifetimeMS is the longest lifetime in milliseconds: ten digits, as in the
// timeout header of the public protocol.
const maxLifetimeMS = 9_999_999_999

// hangUpWatch reads ahead while no frame is expected, to notice that the peer
// hangs up. A next call that arrives early stays in the reader.
type hangUpWatch struct {
	connection *connection
	stopped    chan struct{}
	err        chan error // the result of the read
}

// watch calls hungUp when the peer hangs up. Until stop nothing else may read from
// the connection.
func (c *connection) watch(hungUp func()) *hangUpWatch {
	w := &hangUpWatch{connection: c, stopped: make(chan struct{}), err: make(chan error, 1)}
	go func() {
		err := c.reader.Ahead()
		select {
		case <-w.stopped:
		default:
			if err != nil {
				hungUp()
			}
		}
		w.err <- err
	}()
	return w
}

// stop ends the watch and reports whether the peer is still there.
func (w *hangUpWatch) stop() bool {
	close(w.stopped)
	_ = w.connection.conn.SetReadDeadline(time.Unix(1, 0))
	err := <-w.err
	return err == nil || errors.Is(err, os.ErrDeadlineExceeded)
}

// input hands the data that follows to a command, and closes its stdin.
func (c *connection) input(ctx context.Context, message []byte) error {
	m, err := guestwire.ParseInputCall(message)
	if err != nil {
		return errMessage(err)
	}
	proc, err := c.agent.Processes().ByPID(int(m.GetPid()))
	if err != nil {
		return c.failAmidData(err)
	}
	for {
		if err := c.awaitInput(ctx); err != nil {
			return c.failAmidData(err)
		}
		t, piece, err := c.reader.Frame(guestwire.MaxData)
		switch {
		case err != nil:
			return errHangUp
		case t == guestwire.Data:
			err = proc.WriteStdin(ctx, piece)
		case t == guestwire.End:
			if err = proc.CloseStdin(); err == nil {
				return c.send(guestwire.Answer, nil)
			}
		default:
			return errHangUp
		}
		if err != nil {
			return c.failAmidData(err)
		}
	}
}

// awaitData gives the next read the time of UploadIdleLimit.
func (c *connection) awaitData(ctx context.Context) error {
	_ = c.conn.SetReadDeadline(time.Now().Add(agent.UploadIdleLimit))
	// After the deadline was set: the end of ctx sets it to the past afterwards.
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// awaitInput lets the next read wait without limit, because a person may be
// typing. The host hangs up when the command has ended.
func (c *connection) awaitInput(ctx context.Context) error {
	_ = c.conn.SetReadDeadline(time.Time{})
	// After the deadline was set: the end of ctx sets it to the past afterwards.
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// outcome answers how a command ended that an earlier agent had started.
func (c *connection) outcome(ctx context.Context, message []byte) error {
	m, err := guestwire.ParseOutcomeCall(message)
	if err != nil {
		return errMessage(err)
	}
	end, err := c.agent.Outcome(ctx, m.GetTicket())
	if err != nil {
		return err
	}
	return c.send(guestwire.Event, func(b []byte) []byte { return guestwire.AppendEvent(b, end) })
}

// kill ends a command and all it started.
func (c *connection) kill(message []byte) error {
	m, err := guestwire.ParseKillCall(message)
	if err != nil {
		return errMessage(err)
	}
	if err := c.agent.Kill(m.GetPid()); err != nil {
		return err
	}
	return c.send(guestwire.Answer, nil)
}
