package agent

import (
	"context"
	"errors"
	"time"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
)

// maxClockAdjust bounds the correction of the clock in Release, which makes up for
// the time that Configure took.
const maxClockAdjust = time.Minute

// Hold freezes user processes and leaves the guest open. Commands that are to start
// meanwhile wait. With SyncDisk it then writes file systems back, which may take longer than
// quiesceTimeout. Release ends it.
func (a *Agent) Hold(ctx context.Context, msg *guestv1.HoldRequest) (*guestv1.HoldResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, quiesceTimeout)
	defer cancel()
	release, err := a.exclusive(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := a.processes.Hold(ctx); err != nil {
		return nil, stepFault(err, "freeze_failed", "wait for commands that are being started")
	}
	frozen, err := a.platform.Freeze(ctx)
	if err != nil {
		a.processes.Continue()
		return nil, stepFault(err, "freeze_failed", "freeze user processes")
	}
	if msg.GetSyncDisk() {
		if err := a.platform.Sync(); err != nil {
			err = errors.Join(err, a.platform.Thaw(context.WithoutCancel(ctx)))
			a.processes.Continue()
			return nil, stepFault(err, "sync_failed", "write file systems back")
		}
	}
	return &guestv1.HoldResponse{Frozen: uint32(frozen), Synced: msg.GetSyncDisk()}, nil
}

// Release ends a Hold, or a Configure with Hold: it corrects the clock, thaws user
// processes and opens the guest. token is the caller's.
func (a *Agent) Release(ctx context.Context, msg *guestv1.ReleaseRequest, token string) (*guestv1.ReleaseResponse, error) {
	done, err := a.exclusive(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := a.mayRelease(token); err != nil {
		return nil, err
	}
	if adjust := time.Duration(msg.GetClockAdjustNano()); adjust != 0 && adjust.Abs() <= maxClockAdjust {
		if _, err := a.platform.AdjustClock(adjust); err != nil {
			return nil, stepFault(err, "clock_failed", "set clock")
		}
	}
	// Even if this agent froze nothing: an earlier one may have.
	if err := a.platform.Thaw(ctx); err != nil {
		return nil, stepFault(err, "thaw_failed", "thaw user processes")
	}
	a.processes.Continue()
	if a.pending != nil {
		a.state.open(*a.pending)
		a.pending = nil
	}
	return &guestv1.ReleaseResponse{WallClockUnixNano: time.Now().UnixNano()}, nil
}

// mayRelease checks token against the pending settings, or else the current
// ones.
func (a *Agent) mayRelease(token string) error {
	if a.pending != nil {
		if !a.pending.Admits(token) {
			return Unauthenticated("the access token is wrong")
		}
		return nil
	}
	e := a.state.enter()
	if e == nil {
		return ErrSealed
	}
	defer e.Leave()
	if !e.Admits(token) {
		return Unauthenticated("the access token is wrong")
	}
	return nil
}
