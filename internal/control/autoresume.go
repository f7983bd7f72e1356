package control

import (
	"context"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Bounds of the pause between two reads of the row of a sandbox that another
// process moves.
const (
	minReread = 5 * time.Millisecond
	maxReread = 500 * time.Millisecond
)

// resumable reports whether use of row's sandbox resumes it, or waits for a
// pause or a resume that is under way.
func resumable(row Sandbox) bool {
	switch row.State {
	case sandbox.Paused, sandbox.Pausing, sandbox.Resuming:
		return row.Spec.AutoResume
	default:
		return false
	}
}

// reasonNoMemory is the reason of a host that refuses to boot a sandbox for its use.
const reasonNoMemory = "paused_without_memory"

// resumesForUse reports whether use of row's sandbox resumes it. That is not so after a
// pause without memory: the processes that the use may be about have ended.
func (l *lifecycle) resumesForUse(row Sandbox) bool {
	return resumable(row) && !l.healths.addTo(row).DiskOnly
}

// resumeForUse returns row's sandbox running again, or as it is when use cannot resume
// it any more. However many call it at once, one of them resumes and the
// others wait for its outcome, which may be its error. A pause under way ends
// first. ctx and the resume timeout bound the wait.
//
//	            ┌────────────── look again ◄─────────────┐
//	row ──► Running, or ended: done                      │
//	    ──► Paused, nobody moves it: resume ──► done     │
//	    │                              └─ lost to another process
//	    ──► moving in this process: wait for it ─────────┤
//	    ──► moving elsewhere: back off ──────────────────┘
func (l *lifecycle) resumeForUse(ctx context.Context, row Sandbox) (Sandbox, error) {
	wait, cancel := context.WithTimeout(ctx, l.cfg.ResumeTimeout)
	defer cancel()
	for pause := minReread; l.resumesForUse(row); pause = min(2*pause, maxReread) {
		pending, mine := l.transitionOf(row)
		switch {
		case mine:
			now, err := l.runTransitionAs(ctx, row.ID, l.resumption(Host.ResumeForUse), pending)
			if fault.ReasonOf(err) == reasonNoMemory {
				return l.store.Get(ctx, row.ID) // this process had not heard of the pause
			}
			if !fault.Is(err, fault.WrongState) {
				return now, err
			}
			sleep(wait, pause)
		case pending != nil:
			select {
			case <-pending.done:
			case <-wait.Done():
			}
			if now, ok, err := pending.outcome(); ok {
				return now, err
			}
		default:
			sleep(wait, pause)
		}
		if wait.Err() != nil {
			return Sandbox{}, resumeTimedOut(ctx, row.ID)
		}
		var err error
		if row, err = l.store.Get(ctx, row.ID); err != nil {
			return Sandbox{}, err
		}
	}
	return row, nil
}

// transitionOf returns the transition of row's sandbox in flight in this process,
// or nil. It begins a resume of a paused sandbox that has none, with mine true.
func (l *lifecycle) transitionOf(row Sandbox) (pending *pendingTransition, mine bool) {
	if row.State == sandbox.Paused {
		return l.transitions.begin(row.ID, sandbox.Running)
	}
	return l.transitions.get(row.ID), false
}

// outcome returns the outcome of a resume that has ended. ok is false for a pause,
// for a transition still in flight, and for a resume that lost its compare-and-set:
// then the caller reads the row again.
func (pending *pendingTransition) outcome() (row Sandbox, ok bool, err error) {
	select {
	case <-pending.done:
	default:
		return Sandbox{}, false, nil
	}
	if pending.to != sandbox.Running || fault.Is(pending.err, fault.WrongState) {
		return Sandbox{}, false, nil
	}
	return pending.row, true, pending.err
}

func resumeTimedOut(ctx context.Context, id sandbox.ID) error {
	if err := ctx.Err(); err != nil {
		return fault.As(err)
	}
	return fault.New(fault.Timeout, "resume_timeout",
		"sandbox %s is still being paused or resumed; try again in a moment", id)
}
