package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
)

// quiesceTimeout bounds what Quiesce waits for: requests and processes.
const quiesceTimeout = 10 * time.Second

// quiesce seals the guest. If it fails the guest is open as before; requests
// that were under way have been cut off all the same.
func (s *Server) quiesce(ctx context.Context, msg *guestv1.QuiesceRequest) (*guestv1.QuiesceResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, quiesceTimeout)
	defer cancel()
	release, err := s.exclusive(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	kept, open, err := s.state.seal(ctx)
	if !open {
		return nil, errSealed
	}
	frozen := 0
	if err == nil {
		frozen, err = s.freeze(ctx, msg.GetSyncDisk())
	}
	if err != nil {
		s.log.Error("quiesce failed", slog.Any("error", err))
		s.state.open(kept)
		return nil, err
	}
	s.conns.closeOthers(ctx)
	return &guestv1.QuiesceResponse{Frozen: uint32(frozen)}, nil
}

// freeze stops user processes, writes file systems back if that is wanted, and
// forgets the token. On error user processes go on.
func (s *Server) freeze(ctx context.Context, sync bool) (frozen int, err error) {
	frozen, err = s.freezer.Freeze(ctx)
	if err == nil && sync {
		// Such a snapshot has time, and many machines may be made of it: they
		// shall not have to collect this one's garbage.
		debug.FreeOSMemory()
		err = s.kernel.Sync()
	}
	if err == nil {
		err = s.state.vault.Save(nil)
	}
	if err == nil {
		return frozen, nil
	}
	if thawErr := s.freezer.Thaw(context.WithoutCancel(ctx)); thawErr != nil {
		err = fmt.Errorf("%w (and thaw: %w)", err, thawErr)
	}
	return 0, err
}
