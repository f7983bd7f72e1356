package host

import (
	"context"
	"time"
)

// freezeGrace is how much longer than GuestTimeout a guest may take to freeze
// its processes, which it gives up by itself after 10 s.
const freezeGrace = 10 * time.Second

// sealIf asks a guest that helps to forget its secrets and to stop its processes.
// A snapshot of a sealed guest can be restored under another identity.
func (m *machine) sealIf(ctx context.Context, helps bool) error {
	if !helps {
		return errSilent(nil)
	}
	return m.freezeWith(ctx, func(ctx context.Context) error {
		_, err := m.Guest().Quiesce(ctx)
		return err
	})
}

// freezeWith calls freeze, which has the guest stand still. A guest that has
// answered just before and does not now is Unavailable guest_unresponsive.
func (m *machine) freezeWith(ctx context.Context, freeze func(context.Context) error) error {
	limit, cancel := context.WithTimeout(ctx, m.mgr.cfg.GuestTimeout+freezeGrace)
	defer cancel()
	limit, stop := m.UntilExit(limit)
	defer stop()
	err := freeze(limit)
	switch {
	case err == nil || ctx.Err() != nil || m.Ended():
		return causeOr(limit, err)
	case limit.Err() != nil:
		return errSilent(err)
	}
	return err
}
