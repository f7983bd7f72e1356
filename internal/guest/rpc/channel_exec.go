package rpc

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	pb "github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/internal/fault"
	guestprocess "github.com/wrenn-dev/wrenn/internal/guest/process"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// exec runs a command and sends its events. A peer that hangs up ends the
// stream and not the command.
func (c *channel) exec(ctx context.Context, message []byte) error {
	m, err := guestwire.ParseExecCall(message)
	if err != nil {
		return errMessage(err)
	}
	req := m.GetStart()
	if req == nil {
		req = &pb.StartRequest{}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var starting func(group string)
	var started func(pid int)
	if ticket := m.GetTicket(); ticket != 0 {
		starting = func(group string) { c.server.orphans.Begins(ticket, group) }
		started = func(pid int) { c.server.orphans.Began(ticket, pid) }
	}
	watch := c.watch(cancel)
	err = c.server.run(ctx, command{
		user: m.GetUser(), request: req, keepalive: defaultKeepalive,
		starting: starting, started: started,
		lifetime: time.Duration(min(m.GetTimeoutMs(), maxLifetimeMS)) * time.Millisecond,
	}, func(e *pb.ProcessEvent) error {
		return c.send(guestwire.Event, func(b []byte) []byte { return guestwire.AppendEvent(b, e) })
	})
	if !watch.stop() {
		return errHangUp
	}
	return err
}

// maxLifetimeMS is what ten digits can say, as in the header of the HTTP
// services.
const maxLifetimeMS = 9_999_999_999

// hangUpWatch reads ahead while nothing need come, to hear the peer hang up. A
// next call that comes early stays in the reader.
type hangUpWatch struct {
	channel *channel
	stopped chan struct{}
	err     chan error // what ended the reading
}

// watch calls hungUp when the peer hangs up. Until stop the channel must not
// be read from.
func (c *channel) watch(hungUp func()) *hangUpWatch {
	w := &hangUpWatch{channel: c, stopped: make(chan struct{}), err: make(chan error, 1)}
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
	_ = w.channel.conn.SetReadDeadline(time.Unix(1, 0))
	err := <-w.err
	return err == nil || errors.Is(err, os.ErrDeadlineExceeded)
}

// input hands the data that follows to a command, and closes its stdin.
func (c *channel) input(ctx context.Context, message []byte) error {
	m, err := guestwire.ParseInputCall(message)
	if err != nil {
		return errMessage(err)
	}
	proc, err := c.server.processes.ByPID(int(m.GetPid()))
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

// awaitData gives the next read uploadIdle to make progress.
func (c *channel) awaitData(ctx context.Context) error {
	_ = c.conn.SetReadDeadline(time.Now().Add(uploadIdle))
	// After the deadline was moved: whoever ends ctx moves it back afterwards.
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// awaitInput lets the next read wait without limit: a person may type it. The
// host hangs up when the command has ended.
func (c *channel) awaitInput(ctx context.Context) error {
	_ = c.conn.SetReadDeadline(time.Time{})
	// After the deadline was moved: whoever ends ctx moves it back afterwards.
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// outcome tells how a command ended that an earlier agent had started.
func (c *channel) outcome(ctx context.Context, message []byte) error {
	m, err := guestwire.ParseOutcomeCall(message)
	if err != nil {
		return errMessage(err)
	}
	status, err := c.server.orphans.End(ctx, m.GetTicket())
	if err != nil {
		return fault.As(err)
	}
	return c.send(guestwire.Event, func(b []byte) []byte { return guestwire.AppendEvent(b, endEvent(guestprocess.ExitOf(status))) })
}

// kill ends a command and all it started.
func (c *channel) kill(message []byte) error {
	m, err := guestwire.ParseKillCall(message)
	if err != nil {
		return errMessage(err)
	}
	proc, err := c.server.processes.ByPID(int(m.GetPid()))
	if err == nil {
		err = proc.Signal(syscall.SIGKILL)
	}
	if err != nil {
		return fault.As(err)
	}
	return c.send(guestwire.Answer, nil)
}
