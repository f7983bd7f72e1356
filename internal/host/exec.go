package host

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Exec is one command for a guest.
type Exec struct {
	Start *process.StartRequest
	// User is the guest's default when empty.
	User string
	// Timeout is enforced in the guest. Zero is none.
	Timeout time.Duration
	// Stdin is given to the command, then closed. Start.Stdin must be true
	// where it is not empty.
	Stdin []byte
	// Input is given to the command as it comes, instead of Stdin; nil is none.
	// Nothing is read of it before the command has started. Exec closes it,
	// which must end a Read that waits.
	Input io.ReadCloser
}

// stdin returns the standard input of the command; nil is an empty one.
func (e Exec) stdin() io.ReadCloser {
	if e.Input == nil && len(e.Stdin) > 0 {
		return io.NopCloser(bytes.NewReader(e.Stdin))
	}
	return e.Input
}

// killTimeout bounds the killing of a command whose caller has gone.
const killTimeout = 5 * time.Second

// Exec runs a command and hands its events to send, in order, until the
// command has ended. A caller that goes away (ctx, or an error of send) kills
// the command; a pause, the sandbox's end or a guest that stops answering
// (Timeout guest_unresponsive) cuts the call and leaves it.
func (m *Manager) Exec(ctx context.Context, ref sandbox.Ref, e Exec, send func(*process.ProcessEvent) error) error {
	mc, err := m.find(ref.ID)
	if err != nil {
		return err
	}
	l, err := mc.acquire(ctx, ref, useCommand)
	if err != nil {
		return err
	}
	defer l.release()
	stream, err := l.guest.Start(l.ctx, e.Start, guestclient.StartOptions{User: e.User, Timeout: e.Timeout})
	if err != nil {
		return l.err(err)
	}
	defer stream.Close()
	return l.err(l.pump(stream, e.stdin(), send))
}

// pump moves events until the stream ends or the caller is gone, and stdin the
// other way.
func (l *lease) pump(stream *guestclient.Stream, stdin io.ReadCloser, send func(*process.ProcessEvent) error) error {
	var feeding sync.WaitGroup
	feed, stop := context.WithCancel(l.ctx)
	defer feeding.Wait()
	defer stop()
	if stdin != nil {
		defer stdin.Close()
	}
	var pid uint32
	ended := false
	for {
		event, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			if start := event.GetStart(); start != nil {
				pid = start.GetPid()
				if stdin != nil {
					// A command need not read its input: an error here says
					// nothing about the command.
					feeding.Go(func() {
						err := fault.Caught(func() error { return l.guest.Input(feed, pid, stdin) })
						if fault.ReasonOf(err) == reasonPanic {
							l.m.log.ErrorContext(feed, "giving a command its input panicked", "error", err)
						}
					})
				}
			}
			ended = ended || event.GetEnd() != nil
			err = send(event)
		}
		if err != nil && !ended && !l.cut() {
			if end := l.outcome(stream, err); end != nil {
				return send(end)
			}
			if pid != 0 {
				l.kill(pid)
			}
		}
		if err != nil {
			return err
		}
	}
}

// outcome returns the end of a command whose stream has broken with cause, if the
// guest's agent died, as by kill -9 -1, and its successor could tell the end. The
// command's last output is lost.
func (l *lease) outcome(stream *guestclient.Stream, cause error) *process.ProcessEvent {
	if fault.ReasonOf(cause) != guestclient.ReasonUnreachable || l.ctx.Err() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(l.ctx, l.m.mgr.cfg.GuestTimeout)
	defer cancel()
	end, err := stream.Outcome(ctx)
	if err != nil {
		l.m.log.WarnContext(ctx, "a command's stream broke, and its end is not known", "cause", cause, "error", err)
		return nil
	}
	return end
}

// kill ends a command for whose output nobody waits any more.
func (l *lease) kill(pid uint32) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), killTimeout)
	defer cancel()
	// The next user of the guest finds that it does not answer; the
	// command's own timeout still ends it.
	if err := l.guest.Kill(ctx, pid); err != nil {
		l.m.log.DebugContext(ctx, "could not kill a command", "error", err)
	}
}
