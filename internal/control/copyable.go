package control

import (
	"context"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// copyable returns the row of a sandbox that can be copied: one that runs or is
// paused, and does not move.
func (s *snapshots) copyable(ctx context.Context, id sandbox.ID) (Sandbox, Host, error) {
	row, err := s.store.Get(ctx, id)
	if err != nil {
		return Sandbox{}, nil, err
	}
	if row.State != sandbox.Running && row.State != sandbox.Paused {
		return Sandbox{}, nil, wrongState(row, sandbox.StatusRunning)
	}
	host, err := s.hostOf(row)
	return row, host, err
}

// snapshotFailed turns the error of a snapshot of row's sandbox into the caller's
// error. If the host's state differs from the row, the row is reconciled first.
func (s *snapshots) snapshotFailed(ctx context.Context, row Sandbox, host Host, cause error) error {
	if !stateForbids(cause) || OutcomeUnknown(cause) {
		return s.rows.orEnded(ctx, row, hostFault(cause))
	}
	now, err := s.rows.reconcileNow(ctx, host, row)
	if err == nil && now.State != row.State {
		return wrongState(now, row.State.Status())
	}
	return withCleanup(hostFault(cause), err)
}
