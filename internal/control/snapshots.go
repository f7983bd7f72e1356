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

// snapshots is the use cases of snapshots.
type snapshots struct {
	common
	store snapshotStore
	rows  *rowReconciler
}

// snapshotStore is the part of [Store] that snapshots needs.
type snapshotStore interface {
	sandboxReader
	snapshotReader
	InsertSnapshot(ctx context.Context, s Snapshot, q SnapshotQuota) (Snapshot, error)
	ListSnapshots(ctx context.Context, f SnapshotFilter) ([]Snapshot, string, error)
	MoveSnapshot(ctx context.Context, m SnapshotMove) (row Snapshot, won bool, err error)
	RemoveSnapshot(ctx context.Context, id sandbox.SnapshotID) error
}

// snapshotReader reads one snapshot.
type snapshotReader interface {
	GetSnapshot(ctx context.Context, id sandbox.SnapshotID) (Snapshot, error)
}

// snapshotRow returns the row of a new snapshot of row's sandbox.
func snapshotRow(row Sandbox, kind SnapshotKind) Snapshot {
	return Snapshot{
		ID: sandbox.NewSnapshotID(), Kind: kind, Status: SnapshotCreating, Of: row.Ref(), HostID: row.HostID,
		Spec: sandbox.Spec{
			Template: row.Spec.Template, VCPUs: row.Spec.VCPUs, MemoryMB: row.Spec.MemoryMB, DiskMB: row.Spec.DiskMB,
			Runtime: row.Spec.Runtime, TemplateID: row.Spec.TemplateID, TemplateRef: row.Spec.TemplateRef,
			User: row.Spec.User, Workdir: row.Spec.Workdir,
		},
	}
}

// CreateSnapshot implements Snapshots. The row is written, and the quota
// checked, before the host is called.
func (s *snapshots) CreateSnapshot(ctx context.Context, id sandbox.ID, n NewSnapshot) (Snapshot, error) {
	if err := ValidateSnapshotName(n.Name); err != nil {
		return Snapshot{}, err
	}
	if err := ValidateMetadata(n.Metadata); err != nil {
		return Snapshot{}, err
	}
	if n.DiskOnly && n.Force {
		return Snapshot{}, fault.New(fault.Invalid, "invalid_force", "a snapshot without memory needs the guest's help: leave out force, or memory")
	}
	ctx, cancel := s.detached(ctx, s.cfg.PauseTimeout)
	defer cancel()
	of, host, err := s.copyable(ctx, id)
	if err != nil {
		return Snapshot{}, err
	}
	row := snapshotRow(of, KindNamed)
	row.Name, row.Metadata, row.DiskOnly = n.Name, n.Metadata, n.DiskOnly
	row, err = s.store.InsertSnapshot(ctx, row, SnapshotQuota{Count: s.cfg.MaxSnapshots, Bytes: s.cfg.MaxSnapshotBytes})
	if err != nil {
		return Snapshot{}, err
	}
	hostCtx, cancelHost := context.WithTimeout(ctx, s.cfg.PauseTimeout)
	defer cancelHost()
	observed, err := takeBy(host, n)(hostCtx, of.Ref(), row.ID, KindNamed)
	switch {
	case err == nil && keptMemory(row, observed):
		s.dropSnapshot(ctx, host, row.ID)
		return Snapshot{}, ErrDiskPauseUnsupported()
	case err == nil:
		return s.snapshotMade(ctx, row, observed)
	case OutcomeUnknown(err):
		return Snapshot{}, fault.Wrap(err, unknownKind(err), "outcome_unknown",
			"the host has not answered, so the outcome is not known yet; read snapshot %s again in a minute", row.ID)
	default:
		return Snapshot{}, withCleanup(s.snapshotFailed(ctx, of, host, err), s.store.RemoveSnapshot(ctx, row.ID))
	}
}

// takeBy returns the way in which host is to take a snapshot.
func takeBy(host Host, n NewSnapshot) func(context.Context, sandbox.Ref, sandbox.SnapshotID, SnapshotKind) (ObservedSnapshot, error) {
	switch {
	case n.DiskOnly:
		return host.SnapshotDisk
	case n.Force:
		return host.ForceSnapshot
	}
	return host.CreateSnapshot
}

// keptMemory reports that the snapshot of row was to have no memory, and that its host kept
// the memory all the same, as an agent of an earlier version does.
func keptMemory(row Snapshot, observed ObservedSnapshot) bool {
	return row.DiskOnly && !observed.DiskOnly
}

// snapshotMade moves the row of a snapshot that the host has. The reconciler
// may have done so before.
func (s *snapshots) snapshotMade(ctx context.Context, row Snapshot, observed ObservedSnapshot) (Snapshot, error) {
	now, won, err := s.store.MoveSnapshot(ctx, SnapshotMove{
		ID: row.ID, From: []SnapshotStatus{SnapshotCreating}, To: SnapshotReady, Observed: &observed,
	})
	if err != nil {
		return Snapshot{}, err // the snapshot exists and the row is creating: the reconciler moves it
	}
	if !won && now.Status != SnapshotReady {
		return Snapshot{}, snapshotNotReady(now)
	}
	return now, nil
}

// GetSnapshot implements Snapshots.
func (s *snapshots) GetSnapshot(ctx context.Context, id sandbox.SnapshotID) (Snapshot, error) {
	return namedSnapshot(ctx, s.store, id)
}

// namedSnapshot returns the row of a snapshot that users see. The snapshot of a fork
// is NotFound.
func namedSnapshot(ctx context.Context, store snapshotReader, id sandbox.SnapshotID) (Snapshot, error) {
	row, err := store.GetSnapshot(ctx, id)
	if err == nil && row.Kind != KindNamed {
		err = fault.New(fault.NotFound, ReasonSnapshotNotFound, "there is no snapshot with the id %s", id)
	}
	if err != nil {
		return Snapshot{}, err
	}
	return row, nil
}

// ListSnapshots implements Snapshots.
func (s *snapshots) ListSnapshots(ctx context.Context, f SnapshotFilter) ([]Snapshot, string, error) {
	return s.store.ListSnapshots(ctx, f)
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

func snapshotNotReady(row Snapshot) error {
	return fault.New(fault.WrongState, "snapshot_not_ready",
		"snapshot %s is %s; it must be ready for this", row.ID, row.Status)
}
