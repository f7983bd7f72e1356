package rpc

import (
	"context"
	"time"

	"connectrpc.com/connect"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
)

// maxClockAdjust bounds what Release moves the clock by: what it corrects is
// the time that Configure took.
const maxClockAdjust = time.Minute

// open thaws user processes and opens the guest with next. The caller has the
// turn.
func (g *guestService) open(ctx context.Context, next settings) error {
	if err := g.server.freezer.Thaw(ctx); err != nil {
		return errStep(err, "thaw_failed", "thaw user processes")
	}
	g.pending = nil
	g.server.state.open(next)
	return nil
}

// Hold implements wrenn.guest.v1.Guest.
func (g *guestService) Hold(ctx context.Context, _ *connect.Request[guestv1.HoldRequest]) (*connect.Response[guestv1.HoldResponse], error) {
	ctx, cancel := context.WithTimeout(ctx, quiesceTimeout)
	defer cancel()
	release, err := g.exclusive(ctx)
	if err != nil {
		return nil, faultrpc.ToConnect(err)
	}
	defer release()
	frozen, err := g.server.freezer.Freeze(ctx)
	if err != nil {
		return nil, faultrpc.ToConnect(errStep(err, "freeze_failed", "freeze user processes"))
	}
	return connect.NewResponse(&guestv1.HoldResponse{Frozen: uint32(frozen)}), nil
}

// Release implements wrenn.guest.v1.Guest.
func (g *guestService) Release(ctx context.Context, req *connect.Request[guestv1.ReleaseRequest]) (*connect.Response[guestv1.ReleaseResponse], error) {
	release, err := g.exclusive(ctx)
	if err != nil {
		return nil, faultrpc.ToConnect(err)
	}
	defer release()
	return answer(g.release(ctx, req.Msg, req.Header().Get(headerToken)))
}

func (g *guestService) release(ctx context.Context, msg *guestv1.ReleaseRequest, token string) (*guestv1.ReleaseResponse, error) {
	s := g.server
	if g.pending != nil {
		if !g.pending.admits(token) {
			return nil, errAccess("the access token is wrong")
		}
	} else if e := s.state.enter(); e == nil {
		return nil, errSealed
	} else {
		e.leave()
		if !e.admits(token) {
			return nil, errAccess("the access token is wrong")
		}
	}
	if adjust := time.Duration(msg.GetClockAdjustNano()); adjust != 0 && adjust.Abs() <= maxClockAdjust {
		if _, err := s.kernel.SetClock(time.Unix(0, time.Now().UnixNano()).Add(adjust)); err != nil {
			return nil, errStep(err, "clock_failed", "set clock")
		}
	}
	if g.pending != nil {
		if err := g.open(ctx, *g.pending); err != nil {
			return nil, err
		}
	} else if err := s.freezer.Thaw(ctx); err != nil {
		// Also where this agent held nothing: one before it may have.
		return nil, errStep(err, "thaw_failed", "thaw user processes")
	}
	return &guestv1.ReleaseResponse{WallClockUnixNano: time.Now().UnixNano()}, nil
}
