package host

import (
	"context"
	"syscall"
	"time"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// startGrace is how long a start command may take to end after SIGTERM. It is changed by tests.
var startGrace = 10 * time.Second

// startKilled is how long it may take after SIGKILL.
const startKilled = 5 * time.Second

// EndStart ends the process of the start command that StartAgain has recorded in the sandbox of
// ref, because another one with the id next is about to take its place. So a template that is
// based on another one has the same processes before and after a boot from its disk, and its
// start command can use the ports of the one that it replaces.
//
// Every process that the command has started gets SIGTERM, and SIGKILL if the command itself has
// not ended after startGrace. One that outlives the command stays, because the guest signals no
// group whose main process has ended. Without a recorded process, and if it is that of next,
// EndStart does nothing. The error is that of a
// guest that does not answer if the process is there after startKilled, or if the guest says
// nothing for GuestTimeout after the time for which it was asked to wait.
func (m *Manager) EndStart(ctx context.Context, ref sandbox.Ref, next string) error {
	mc, err := m.find(ref.ID)
	if err != nil {
		return err
	}
	id := mc.recordedStart()
	if id == "" || id == next {
		return nil
	}
	for _, try := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGTERM, startGrace}, {syscall.SIGKILL, startKilled}} {
		signal := &guestv1.SignalProcess{Id: id, Signal: uint32(try.signal), All: true}
		_, err := m.CallProcess(ctx, ref, &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Signal{Signal: signal}})
		if reason := fault.ReasonOf(err); reason == reasonNoProcess || reason == reasonProcessEnded {
			return nil
		}
		if err != nil {
			return err
		}
		get := &guestv1.GetProcess{Id: id, WaitMs: uint32(try.wait.Milliseconds())}
		limited, cancel := context.WithTimeoutCause(ctx, try.wait+m.cfg.GuestTimeout, errNoAnswer)
		answer, err := m.CallProcess(limited, ref, &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Get{Get: get}})
		cancel()
		if err != nil {
			return err
		}
		if answer.GetProcesses()[0].GetEndedUnixNano() != 0 {
			return nil
		}
	}
	return errNoAnswer
}

// startIDOf returns the id of the process of a start command; nil has none.
func startIDOf(start *sandbox.StartCommand) string {
	if start == nil {
		return ""
	}
	return start.ID
}

// recordedStart returns the id of the process of the recorded start command, or "".
func (m *machine) recordedStart() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.view.startID
}
