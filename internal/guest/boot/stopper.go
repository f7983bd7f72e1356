package boot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Stopper stops and continues user processes with signals, where the kernel has
// no freezer. It implements agent.Freezer. Its methods must not be called at the
// same time.
//
// Freeze stops parents before their children, and Thaw continues children before
// their parents. A parent therefore never runs while a child is stopped, and a
// shell with job control does not find its command suspended.
//
// No user process can send a signal that undoes a Freeze. SIGSTOP can be neither caught
// nor blocked, and Freeze ends with a pass over all processes that found each of them
// stopped, so that none runs that could send SIGCONT. A timer can: a process that has
// made one with SIGCONT (timer_create(2)) continues when it expires. It harms its own
// guest alone, whose copies may run code before they are renewed.
//
// A process under a debugger stops all the same, but its debugger sees the
// signal, where a freezer would be invisible.
//
// Invariants: stopped holds the processes that have got a SIGSTOP and no SIGCONT
// since, parents before children; a process that was stopped by its user is not
// among them. Before known is true, an earlier agent may have stopped others.
type Stopper struct {
	processes func() ([]userProcess, error)
	stopped   []userProcess
	known     bool
}

// NewStopper returns a Stopper for all processes of the guest but Init and the
// agent, which is the calling process.
func NewStopper() *Stopper {
	agent := unix.Getpid()
	return &Stopper{processes: func() ([]userProcess, error) { return readProcesses(1, agent) }}
}

// stopPoll is the interval at which stopping processes are checked. There is no
// notification.
const stopPoll = time.Millisecond

// Freeze stops every user process and returns once all have stopped, with their
// number. On error some may be stopped: Thaw must follow.
func (s *Stopper) Freeze(ctx context.Context) (frozen int, err error) {
	ctx, cancel := context.WithTimeout(ctx, freezeTimeout)
	defer cancel()
	for {
		count, quiet, err := s.pass(ctx)
		if err != nil {
			return 0, fmt.Errorf("stop processes: %w", err)
		}
		if quiet {
			s.known = true
			return count, nil
		}
	}
}

// pass stops the processes that run, generation by generation. It is quiet if
// there was none, and returns the number of processes.
func (s *Stopper) pass(ctx context.Context) (count int, quiet bool, err error) {
	found, err := s.processes()
	if err != nil {
		return 0, false, err
	}
	quiet = true
	for _, generation := range generations(found) {
		var stopping []userProcess
		for _, p := range generation {
			switch p.activity() {
			case ended:
				continue
			case runs:
				quiet = false
				stopping = append(stopping, p)
				s.stop(p)
			case waits:
				// It has to stop before it runs user code again, unless another
				// process has sent SIGCONT since.
				quiet = quiet && s.has(p)
				s.stop(p)
			case stands:
			}
			count++
		}
		if err := awaitStopped(ctx, stopping); err != nil {
			return 0, false, err
		}
	}
	return count, quiet, nil
}

func (s *Stopper) stop(p userProcess) {
	if unix.Kill(p.pid, unix.SIGSTOP) == nil && !s.has(p) {
		s.stopped = append(s.stopped, p)
	}
}

func (s *Stopper) has(p userProcess) bool { return slices.ContainsFunc(s.stopped, p.is) }

// awaitStopped returns when none of the processes runs, or none is left. A process
// that another one has continued meanwhile counts as stopped: the next pass finds
// it.
func awaitStopped(ctx context.Context, stopping []userProcess) error {
	if len(stopping) == 0 {
		return nil
	}
	poll := time.NewTicker(stopPoll)
	defer poll.Stop()
	for {
		stopping = slices.DeleteFunc(stopping, func(p userProcess) bool { return p.activity() != runs })
		if len(stopping) == 0 {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("process %d does not stop: %w", stopping[0].pid, context.Cause(ctx))
		}
		for _, p := range stopping {
			_ = unix.Kill(p.pid, unix.SIGSTOP)
		}
	}
}

// Thaw continues the processes that Freeze has stopped. An agent that has stopped
// none itself continues every user process, because an earlier agent may have
// stopped them. It is idempotent.
func (s *Stopper) Thaw(context.Context) error {
	waiting := s.stopped
	if !s.known && len(waiting) == 0 {
		found, err := s.processes()
		if err != nil {
			return fmt.Errorf("continue processes: %w", err)
		}
		waiting = slices.Concat(generations(found)...)
	}
	var errs []error
	for _, p := range slices.Backward(waiting) {
		if !p.exists() {
			continue
		}
		if err := unix.Kill(p.pid, unix.SIGCONT); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("continue process %d: %w", p.pid, err))
		}
	}
	if len(errs) == 0 {
		s.stopped, s.known = nil, true
	}
	return errors.Join(errs...)
}
