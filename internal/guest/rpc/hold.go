package rpc

import (
	"context"
	"time"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
)

// maxClockAdjust bounds what Release moves the clock by: what it corrects is
// the time that Configure took.
const maxClockAdjust = time.Minute

// hold freezes user processes and leaves the guest open.
func (s *Server) hold(ctx context.Context) (frozen int, err error) {
	ctx, cancel := context.WithTimeout(ctx, quiesceTimeout)
	defer cancel()
	release, err := s.exclusive(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	frozen, err = s.freezer.Freeze(ctx)
	return frozen, errStep(err, "freeze_failed", "freeze user processes")
}

// release ends a Configure that holds, or a Hold. token is the caller's.
func (s *Server) release(ctx context.Context, msg *guestv1.ReleaseRequest, token string) (*guestv1.ReleaseResponse, error) {
	done, err := s.exclusive(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := s.mayRelease(token); err != nil {
		return nil, err
	}
	if adjust := time.Duration(msg.GetClockAdjustNano()); adjust != 0 && adjust.Abs() <= maxClockAdjust {
		// Unix times: the clock that is moved is not the monotonic one.
		if _, err := s.kernel.SetClock(time.Unix(0, time.Now().UnixNano()).Add(adjust)); err != nil {
			return nil, errStep(err, "clock_failed", "set clock")
		}
	}
	// Also where this agent froze nothing: one before it may have.
	if err := s.freezer.Thaw(ctx); err != nil {
		return nil, errStep(err, "thaw_failed", "thaw user processes")
	}
	if s.pending != nil {
		s.state.open(*s.pending)
		s.pending = nil
	}
	return &guestv1.ReleaseResponse{WallClockUnixNano: time.Now().UnixNano()}, nil
}

// mayRelease checks token against the settings that are about to hold, or those
// that do.
func (s *Server) mayRelease(token string) error {
	if s.pending != nil {
		if !s.pending.admits(token) {
			return errAccess("the access token is wrong")
		}
		return nil
	}
	e := s.state.enter()
	if e == nil {
		return errSealed
	}
	defer e.leave()
	if !e.admits(token) {
		return errAccess("the access token is wrong")
	}
	return nil
}
