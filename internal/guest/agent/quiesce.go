package agent

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
)

// quiesceTimeout bounds the wait of Quiesce for calls and processes.
const quiesceTimeout = 10 * time.Second

// Quiesce seals the guest: it cuts off calls, freezes user processes and wipes
// the token. If it fails, the guest is open as before, but calls that were under
// way have been cut off.
func (a *Agent) Quiesce(ctx context.Context, msg *guestv1.QuiesceRequest) (*guestv1.QuiesceResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, quiesceTimeout)
	defer cancel()
	release, err := a.exclusive(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	previous, open, err := a.state.sealAndWait(ctx)
	if !open {
		return nil, ErrSealed
	}
	frozen := 0
	if err == nil {
		frozen, err = a.freeze(ctx, msg.GetSyncDisk())
	}
	if err != nil {
		a.log.Error("quiesce failed", slog.Any("error", err))
		a.state.open(previous)
		return nil, err
	}
	a.connections.closeOthers(ctx)
	answer := &guestv1.QuiesceResponse{Frozen: uint32(frozen)}
	if msg.GetSyncDisk() {
		answer.Processes, answer.Listed = a.records(), true
	}
	return answer, nil
}

// freeze stops user processes, writes file systems back if sync is set, and wipes
// the saved settings. On error user processes continue.
func (a *Agent) freeze(ctx context.Context, sync bool) (frozen int, err error) {
	frozen, err = a.platform.Freeze(ctx)
	if err == nil && sync {
		// A template is being made: its clones should not inherit garbage that
		// each of them would have to collect.
		debug.FreeOSMemory()
		err = a.platform.Sync()
	}
	if err == nil {
		err = a.platform.SaveSettings(nil)
	}
	if err == nil {
		a.publish(nil)
		return frozen, nil
	}
	if thawErr := a.platform.Thaw(context.WithoutCancel(ctx)); thawErr != nil {
		err = fmt.Errorf("%w (and thaw: %w)", err, thawErr)
	}
	return 0, err
}
