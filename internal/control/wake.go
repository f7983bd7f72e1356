package control

import (
	"context"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Bounds of the pause between two looks at a sandbox that another process is
// moving.
const (
	minReread = 5 * time.Millisecond
	maxReread = 500 * time.Millisecond
)

// wakeable reports whether use of row's sandbox resumes it, or waits for a
// pause or a resume that is under way.
func wakeable(row Sandbox) bool {
	switch row.State {
	case sandbox.Paused, sandbox.Pausing, sandbox.Resuming:
		return row.Spec.AutoResume
	default:
		return false
	}
}

// awake returns row's sandbox running again, or as it is when use cannot resume
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
func (s *Service) awake(ctx context.Context, row Sandbox) (Sandbox, error) {
	wait, cancel := context.WithTimeout(ctx, s.cfg.ResumeTimeout)
	defer cancel()
	for pause := minReread; wakeable(row); pause = min(2*pause, maxReread) {
		mo, mine := s.motionOf(row)
		switch {
		case mine:
			now, err := s.transitAs(ctx, row.ID, s.resumption(), mo)
			if !fault.Is(err, fault.WrongState) {
				return now, err
			}
			sleep(wait, pause)
		case mo != nil:
			select {
			case <-mo.done:
			case <-wait.Done():
			}
			if now, ok, err := mo.woke(); ok {
				return now, err
			}
		default:
			sleep(wait, pause)
		}
		if wait.Err() != nil {
			return Sandbox{}, wakeFailed(ctx)
		}
		var err error
		if row, err = s.store.Get(ctx, row.ID); err != nil {
			return Sandbox{}, err
		}
	}
	return row, nil
}

// motionOf returns what moves row's sandbox in this process, nil if nothing
// does. A paused one is ours to resume if nothing does.
func (s *Service) motionOf(row Sandbox) (mo *motion, mine bool) {
	if row.State == sandbox.Paused {
		return s.motions.begin(row.ID, sandbox.Running)
	}
	return s.motions.get(row.ID), false
}

// woke returns the outcome of a resume that is over. ok is false for a pause,
// for a motion that goes on, and for one that was overtaken: then the row
// tells more.
func (mo *motion) woke() (row Sandbox, ok bool, err error) {
	select {
	case <-mo.done:
	default:
		return Sandbox{}, false, nil
	}
	if mo.to != sandbox.Running || fault.Is(mo.err, fault.WrongState) {
		return Sandbox{}, false, nil
	}
	return mo.row, true, mo.err
}

func wakeFailed(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fault.As(err)
	}
	return fault.New(fault.Timeout, "resume_timeout", "the sandbox is being resumed or paused and that takes too long; try again")
}

// sleep returns after d or when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
