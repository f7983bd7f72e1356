package control

import (
	"context"
	"math"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Clocks of machines. A machine whose server has died ends by itself.
const (
	machineTimeout  = 10 * time.Minute
	machineLifetime = 12 * time.Hour
)

// NewMachine is a request for a sandbox in which a template is built.
type NewMachine struct {
	// ID is that of the sandbox, so that the caller can destroy it when the outcome of
	// its create is unknown; empty is a new one.
	ID sandbox.ID
	// Build is the id of the build.
	Build string
	// Image is the root image to boot, unless Snapshot is set: of any kind.
	Image    string
	Snapshot sandbox.SnapshotID
	// HostID is the host that has the image; empty is any.
	HostID string
	// VCPUs, MemoryMB and DiskMB are ignored with a Snapshot.
	VCPUs, MemoryMB, DiskMB int
	Runtime                 sandbox.Runtime
}

// KeptSnapshot describes a snapshot of a machine.
type KeptSnapshot struct {
	// Kind is KindLayer or KindTemplate.
	Kind SnapshotKind
	// TemplateID and TemplateName are shown as those of sandboxes made from it.
	TemplateID, TemplateName string
	// User and Workdir are those of commands in such sandboxes; empty is the guest's default.
	User, Workdir string
}

// machines is the use cases that builds of templates need. Lists and reads of sandboxes and
// snapshots do not show machines and their snapshots.
type machines struct {
	common
	store     machineStore
	creator   *creator
	snapshots *snapshots
}

// machineStore is the part of [Store] that machines needs.
type machineStore interface {
	snapshotReader
	Machines(ctx context.Context, build string) ([]Sandbox, error)
	InsertSnapshot(ctx context.Context, s Snapshot, q SnapshotQuota) (Snapshot, error)
	MoveSnapshot(ctx context.Context, m SnapshotMove) (row Snapshot, won bool, err error)
	RemoveSnapshot(ctx context.Context, id sandbox.SnapshotID) error
}

// CreateMachine creates a sandbox in which a template is built. Commands in it that name no
// user are root's. Errors are those of Create.
func (m *machines) CreateMachine(ctx context.Context, n NewMachine) (Sandbox, error) {
	if n.Build == "" {
		return Sandbox{}, fault.New(fault.Internal, "internal", "a machine needs the id of its build")
	}
	timeout, lifetime := machineTimeout, machineLifetime
	req := SpecRequest{Runtime: n.Runtime, Clocks: ClockRequest{Idle: &timeout, Lifetime: &lifetime}}
	var from Snapshot
	if n.Snapshot == "" {
		req.Template = &n.Image
		for _, size := range []struct {
			dst   **int
			given int
		}{{&req.VCPUs, n.VCPUs}, {&req.MemoryMB, n.MemoryMB}, {&req.DiskMB, n.DiskMB}} {
			if size.given != 0 {
				*size.dst = &size.given
			}
		}
	}
	spec, err := req.Complete(m.fleet.Hosts())
	if err != nil {
		return Sandbox{}, err
	}
	hostID := n.HostID
	if n.Snapshot != "" {
		if from, err = m.store.GetSnapshot(ctx, n.Snapshot); err != nil {
			return Sandbox{}, err
		}
		if spec, from, err = req.startingFrom(from, spec, true); err != nil {
			return Sandbox{}, err
		}
		spec.User, spec.Workdir, spec.TemplateID, spec.TemplateRef = "", "", "", ""
		hostID = from.HostID
	}
	return m.creator.start(ctx, Sandbox{ID: n.ID, Spec: spec, SnapshotID: from.ID, BuildID: n.Build}, hostID, nil)
}

// MachinesOf returns the machines of a build that have not ended, and of all builds for "".
func (m *machines) MachinesOf(ctx context.Context, build string) ([]Sandbox, error) {
	return m.store.Machines(ctx, build)
}

// KeepSnapshot takes a snapshot of a machine and returns when it is durable. A snapshot
// with an unknown outcome is deleted once the host answers.
func (m *machines) KeepSnapshot(ctx context.Context, id sandbox.ID, k KeptSnapshot) (Snapshot, error) {
	if k.Kind != KindLayer && k.Kind != KindTemplate {
		return Snapshot{}, fault.New(fault.Internal, "internal", "a snapshot of the kind %q cannot be kept", k.Kind)
	}
	ctx, cancel := m.detached(ctx, m.cfg.PauseTimeout)
	defer cancel()
	of, host, err := m.snapshots.copyable(ctx, id)
	if err != nil {
		return Snapshot{}, err
	}
	row := snapshotRow(of, k.Kind)
	row.Spec.TemplateID, row.Spec.TemplateRef, row.Spec.User, row.Spec.Workdir = k.TemplateID, k.TemplateName, k.User, k.Workdir
	if err := row.Spec.ValidateDefaults(); err != nil {
		return Snapshot{}, err
	}
	row, err = m.store.InsertSnapshot(ctx, row, SnapshotQuota{Count: math.MaxInt})
	if err != nil {
		return Snapshot{}, err
	}
	hostCtx, cancelHost := context.WithTimeout(ctx, m.cfg.PauseTimeout)
	defer cancelHost()
	observed, err := host.CreateSnapshot(hostCtx, of.Ref(), row.ID, k.Kind)
	switch {
	case err == nil:
		return m.snapshots.snapshotMade(ctx, row, observed)
	case OutcomeUnknown(err):
		_, _, moveErr := m.store.MoveSnapshot(ctx, SnapshotMove{ID: row.ID, From: SnapshotStatuses(), To: SnapshotDeleting})
		return Snapshot{}, withCleanup(fault.Wrap(err, unknownKind(err), "outcome_unknown",
			"the host has not answered, so the snapshot of sandbox %s is given up", id), moveErr)
	default:
		return Snapshot{}, withCleanup(m.snapshots.snapshotFailed(ctx, of, host, err), m.store.RemoveSnapshot(ctx, row.ID))
	}
}

// DropSnapshot deletes a snapshot of a machine. One that is gone is no error. If the host
// does not answer, the reconciler finishes the deletion.
func (m *machines) DropSnapshot(ctx context.Context, id sandbox.SnapshotID) error {
	ctx, cancel := m.detached(ctx, m.cfg.DestroyTimeout)
	defer cancel()
	row, err := m.store.GetSnapshot(ctx, id)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil
	case err != nil:
		return err
	case row.Kind != KindLayer && row.Kind != KindTemplate:
		return fault.New(fault.Internal, "internal", "snapshot %s is not one of a build", id)
	}
	row, _, err = m.store.MoveSnapshot(ctx, SnapshotMove{ID: id, From: SnapshotStatuses(), To: SnapshotDeleting})
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := m.snapshots.finishDelete(ctx, row); err != nil {
		m.log.Warn("the snapshot of a build is left to the reconciler", "snapshot", id, "error", err)
	}
	return nil
}

// GetKept finds a snapshot of any kind, also one that GetSnapshot hides. Only the builder
// of templates calls it. It is NotFound with ReasonSnapshotNotFound if there is none.
func (m *machines) GetKept(ctx context.Context, id sandbox.SnapshotID) (Snapshot, error) {
	return m.store.GetSnapshot(ctx, id)
}
