package control

import (
	"context"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Reasons of faults about snapshots.
const (
	ReasonSnapshotNotFound = "snapshot_not_found"
	ReasonSnapshotQuota    = "snapshot_quota"
)

// MaxSnapshotName is the most characters of a snapshot's name.
const MaxSnapshotName = 128

// snapshotRow returns the row of a new snapshot of row's sandbox.
func snapshotRow(row Sandbox, kind SnapshotKind) Snapshot {
	return Snapshot{
		ID: sandbox.NewSnapshotID(), Kind: kind, Status: SnapshotCreating, Of: row.Ref(), HostID: row.HostID,
		Spec: sandbox.Spec{
			Template: row.Spec.Template, VCPUs: row.Spec.VCPUs, MemoryMB: row.Spec.MemoryMB, DiskMB: row.Spec.DiskMB,
		},
	}
}

// CreateSnapshot implements Snapshots. The row is written, and the quota
// checked, before the host is called.
func (s *Service) CreateSnapshot(ctx context.Context, id sandbox.ID, n NewSnapshot) (Snapshot, error) {
	if err := ValidateSnapshotName(n.Name); err != nil {
		return Snapshot{}, err
	}
	if err := ValidateMetadata(n.Metadata); err != nil {
		return Snapshot{}, err
	}
	ctx, cancel := s.detached(ctx, s.cfg.PauseTimeout)
	defer cancel()
	of, host, err := s.still(ctx, id)
	if err != nil {
		return Snapshot{}, err
	}
	row := snapshotRow(of, KindNamed)
	row.Name, row.Metadata = n.Name, n.Metadata
	row, err = s.store.InsertSnapshot(ctx, row, SnapshotQuota{Count: s.cfg.MaxSnapshots, Bytes: s.cfg.MaxSnapshotBytes})
	if err != nil {
		return Snapshot{}, err
	}
	hostCtx, cancelHost := context.WithTimeout(ctx, s.cfg.PauseTimeout)
	defer cancelHost()
	view, err := takeBy(host, n.Force)(hostCtx, of.Ref(), row.ID, KindNamed)
	switch {
	case err == nil:
		return s.snapshotMade(ctx, row, view)
	case OutcomeUnknown(err):
		return Snapshot{}, fault.Wrap(err, unknownKind(err), "outcome_unknown",
			"the host has not answered; snapshot %s is being settled, read it again in a minute", row.ID)
	default:
		return Snapshot{}, withCleanup(s.stillFailed(ctx, of, host, err), s.store.RemoveSnapshot(ctx, row.ID))
	}
}

// takeBy returns the way in which host is to take a snapshot.
func takeBy(host Host, force bool) func(context.Context, sandbox.Ref, sandbox.SnapshotID, SnapshotKind) (SnapshotView, error) {
	if force {
		return host.ForceSnapshot
	}
	return host.CreateSnapshot
}

// snapshotMade moves the row of a snapshot that the host has. The reconciler
// may have done so before.
func (s *Service) snapshotMade(ctx context.Context, row Snapshot, view SnapshotView) (Snapshot, error) {
	now, won, err := s.store.MoveSnapshot(ctx, SnapshotMove{
		ID: row.ID, From: []SnapshotStatus{SnapshotCreating}, To: SnapshotReady, View: &view,
	})
	if err != nil {
		return Snapshot{}, err // the snapshot is there and the row is creating: the reconciler's
	}
	if !won && now.Status != SnapshotReady {
		return Snapshot{}, snapshotNotReady(now)
	}
	return now, nil
}

// GetSnapshot implements Snapshots.
func (s *Service) GetSnapshot(ctx context.Context, id sandbox.SnapshotID) (Snapshot, error) {
	row, err := s.store.GetSnapshot(ctx, id)
	if err == nil && row.Kind != KindNamed {
		err = fault.New(fault.NotFound, ReasonSnapshotNotFound, "there is no snapshot with the id %s", id)
	}
	if err != nil {
		return Snapshot{}, err
	}
	return row, nil
}

// ListSnapshots implements Snapshots.
func (s *Service) ListSnapshots(ctx context.Context, f SnapshotFilter) ([]Snapshot, string, error) {
	return s.store.ListSnapshots(ctx, f)
}

// DeleteSnapshot implements Snapshots. When the host fails the row stays
// deleting, and the reconciler finishes.
func (s *Service) DeleteSnapshot(ctx context.Context, id sandbox.SnapshotID) error {
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
			"the snapshot is the template %s; take the name from it first", row.TemplateName)
	case !won:
		return snapshotNotReady(row)
	}
	return s.finishDelete(ctx, row)
}

// finishDelete has the host delete the snapshot of a deleting row, and then
// removes the row.
func (s *Service) finishDelete(ctx context.Context, row Snapshot) error {
	host, ok := s.fleet.Host(row.HostID)
	if !ok {
		return fault.New(fault.HostFailed, "host_unknown", "the snapshot's host is not part of this installation any more")
	}
	hostCtx, cancel := context.WithTimeout(ctx, s.cfg.DestroyTimeout)
	defer cancel()
	if err := host.DeleteSnapshot(hostCtx, row.ID); err != nil {
		return fault.Wrap(err, fault.HostFailed, "delete_pending",
			"the host did not confirm it; the snapshot is gone as soon as the host answers")
	}
	return s.store.RemoveSnapshot(ctx, row.ID)
}

// dropSnapshot ends the snapshot of a fork, of which nothing may be left. The
// reconciler finishes a failed deletion.
func (s *Service) dropSnapshot(ctx context.Context, host Host, id sandbox.SnapshotID) {
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
		s.log.Warn("the snapshot of a fork is left to the reconciler", "snapshot", id, "error", err)
	}
}

// SetTemplate implements Snapshots.
func (s *Service) SetTemplate(ctx context.Context, id sandbox.SnapshotID, name string) (Snapshot, error) {
	if name != "" && !sandbox.ValidTemplateName(name) {
		return Snapshot{}, fault.New(fault.Invalid, "invalid_template",
			"name must be of lower-case letters, digits, '.', '_' and '-', at most %d characters", sandbox.MaxTemplateLen)
	}
	if name != "" && s.isImage(name) {
		return Snapshot{}, templateExists(nil)
	}
	if _, err := s.GetSnapshot(ctx, id); err != nil {
		return Snapshot{}, err
	}
	row, won, err := s.store.NameTemplate(ctx, id, name)
	switch {
	case fault.Is(err, fault.Exists):
		return Snapshot{}, templateExists(err)
	case err != nil:
		return Snapshot{}, err
	case !won:
		return Snapshot{}, snapshotNotReady(row)
	}
	return row, nil
}

func templateExists(cause error) error {
	return fault.Wrap(cause, fault.Exists, "template_exists", "there is a template with this name")
}

func snapshotNotReady(row Snapshot) error {
	return fault.New(fault.WrongState, "snapshot_not_ready", "the snapshot is %s; it must be ready for this", row.Status)
}

// ValidateSnapshotName checks the name of a snapshot, which may be empty.
func ValidateSnapshotName(name string) error {
	if !utf8.ValidString(name) || utf8.RuneCountInString(name) > MaxSnapshotName ||
		slices.ContainsFunc([]rune(name), unicode.IsControl) {
		return fault.New(fault.Invalid, "invalid_name",
			"name may have at most %d characters, none of them control characters", MaxSnapshotName)
	}
	return nil
}
