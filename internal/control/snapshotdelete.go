package control

import (
	"context"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// DeleteSnapshot implements Snapshots. When the host fails the row stays
// deleting, and the reconciler finishes.
func (s *snapshots) DeleteSnapshot(ctx context.Context, id sandbox.SnapshotID) error {
	ctx, cancel := s.detached(ctx, s.cfg.DestroyTimeout)
	defer cancel()
	row, err := s.GetSnapshot(ctx, id)
	if err != nil {
		return err
	}
	row, won, err := s.store.MoveSnapshot(ctx, SnapshotMove{
		ID: id, From: []SnapshotStatus{SnapshotReady, SnapshotError, SnapshotDeleting}, To: SnapshotDeleting,
	})
	switch {
	case err != nil:
		return err
	case !won && row.TemplateName != "":
		return fault.New(fault.WrongState, "snapshot_is_template",
			"snapshot %s is the template %s; remove the template first", id, row.TemplateName)
	case !won:
		return snapshotNotReady(row)
	}
	return s.finishDelete(ctx, row)
}

// finishDelete has the host delete the snapshot of a deleting row, and then
// removes the row.
func (s *snapshots) finishDelete(ctx context.Context, row Snapshot) error {
	host, ok := s.fleet.Host(row.HostID)
	if !ok {
		return fault.New(fault.HostFailed, "host_unknown",
			"host %s of snapshot %s is not part of this installation any more; start the control plane with it again", row.HostID, row.ID)
	}
	hostCtx, cancel := context.WithTimeout(ctx, s.cfg.DestroyTimeout)
	defer cancel()
	if err := host.DeleteSnapshot(hostCtx, row.ID); err != nil {
		return fault.Wrap(err, fault.HostFailed, "delete_pending",
			"host %s did not confirm the deletion of snapshot %s, which is gone as soon as the host answers", row.HostID, row.ID)
	}
	return s.store.RemoveSnapshot(ctx, row.ID)
}

// dropSnapshot deletes a snapshot that nobody may use, or use any more, as that of a fork,
// with all its files. The reconciler finishes a failed deletion.
func (s *snapshots) dropSnapshot(ctx context.Context, host Host, id sandbox.SnapshotID) {
	err := host.DeleteSnapshot(ctx, id)
	if err == nil {
		err = s.store.RemoveSnapshot(ctx, id)
	} else {
		_, _, moveErr := s.store.MoveSnapshot(ctx, SnapshotMove{
			ID: id, From: SnapshotStatuses(), To: SnapshotDeleting,
		})
		err = withCleanup(err, moveErr)
	}
	if err != nil {
		s.log.Warn("the deletion of a snapshot is left to the reconciler", "snapshot", id, "error", err)
	}
}
