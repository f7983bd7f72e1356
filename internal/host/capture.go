package host

import (
	"context"
	"time"
)

// freezeGrace is how much longer than GuestTimeout a guest may take to freeze its
// processes. The guest ends the attempt by itself after 10 s. It is changed by tests.
var freezeGrace = 10 * time.Second

// sealIf asks a guest that helps to forget its secrets and to stop its processes.
// A snapshot of a sealed guest can be restored under another identity.
func (b *body) sealIf(ctx context.Context, helps bool) error {
	if !helps {
		return errSilent(nil)
	}
	return b.freezeWith(ctx, b.mgr.cfg.GuestTimeout, func(ctx context.Context) error {
		_, err := b.Guest().Quiesce(ctx)
		return err
	})
}

// freezeWith calls freeze, with which the guest freezes its processes. A guest that
// answered just before and does not within the time limit is Unavailable
// guest_unresponsive.
func (b *body) freezeWith(ctx context.Context, within time.Duration, freeze func(context.Context) error) error {
	limit, cancel := context.WithTimeout(ctx, within+freezeGrace)
	defer cancel()
	limit, stop := b.UntilExit(limit)
	defer stop()
	err := freeze(limit)
	switch {
	case err == nil || ctx.Err() != nil || b.Ended():
		return causeOr(limit, err)
	case limit.Err() != nil:
		return errSilent(err)
	}
	return err
}
