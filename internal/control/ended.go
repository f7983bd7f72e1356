package control

import (
	"context"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// reasonStopped is the reason with which a host answers for a sandbox that has
// ended, or that it is destroying. Users are told ReasonEnded.
const reasonStopped = "sandbox_stopped"

// over reports whether row's sandbox has ended, or is ending and past return.
func over(row Sandbox) bool { return row.State.Ended() || row.State == sandbox.Stopping }

// stateForbids reports whether a host refused, or cut, something because of
// the state of the sandbox, or because it does not have the sandbox.
func stateForbids(err error) bool {
	kind := fault.KindOf(err)
	return kind == fault.WrongState || kind == fault.Stale || fault.ReasonOf(err) == ReasonSandboxNotFound
}

// orEnded returns err, or, when row's sandbox has ended or is ending by now, the
// fault that says so. Work that an end has broken so has one code, whichever part
// noticed the end first. Only failures that an end can cause are replaced.
func (s *Service) orEnded(ctx context.Context, row Sandbox, err error) error {
	if !stateForbids(err) && !fault.Is(err, fault.HostFailed) && !fault.Is(err, fault.Timeout) {
		return err
	}
	now, readErr := s.store.Get(ctx, row.ID)
	if readErr != nil || !over(now) {
		return err
	}
	return wrongState(now, sandbox.StatusRunning)
}
