package control

import (
	"context"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Destroy implements Sandboxes. When the host fails the row stays stopping,
// and the reconciler finishes. A caller that hangs up changes nothing of that,
// see detached.
func (s *Service) Destroy(ctx context.Context, id sandbox.ID) (err error) {
	ctx, cancel := s.detached(ctx, s.cfg.DestroyTimeout)
	defer cancel()
	var row Sandbox
	defer func() { s.operated(row.HostID, err) }()
	defer s.underway.begin(id)()
	row, err = s.store.Get(ctx, id)
	for err == nil && !row.State.Ended() && row.State != sandbox.Stopping {
		// A lost move brings the row as it is now; another mover got on
		// meanwhile, so this ends.
		row, _, err = s.move(ctx, Move{Ref: row.Ref(), From: row.State, To: sandbox.Stopping})
	}
	if err != nil || row.State.Ended() {
		return err
	}
	host, err := s.hostOf(row)
	if err != nil {
		return err
	}
	hostCtx, cancelHost := context.WithTimeout(ctx, s.cfg.DestroyTimeout)
	defer cancelHost()
	if err := host.Destroy(hostCtx, row.Ref(), sandbox.ReasonDestroyed); err != nil {
		return fault.Wrap(err, fault.HostFailed, "destroy_pending",
			"the host did not confirm it; the sandbox is ended as soon as the host answers")
	}
	_, _, err = s.move(ctx, Move{
		Ref: row.Ref(), From: sandbox.Stopping, To: sandbox.Stopped, StopReason: sandbox.ReasonDestroyed,
	})
	return err
}
