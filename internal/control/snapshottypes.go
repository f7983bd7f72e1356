package control

import (
	"context"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control/reconcile"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// SnapshotKind is the purpose of a snapshot.
type SnapshotKind = reconcile.SnapshotKind

// The kinds of snapshots.
const (
	KindNamed    = reconcile.KindNamed
	KindFork     = reconcile.KindFork
	KindLayer    = reconcile.KindLayer
	KindTemplate = reconcile.KindTemplate
)

// SnapshotKinds lists every SnapshotKind.
func SnapshotKinds() []SnapshotKind { return reconcile.SnapshotKinds() }

// SnapshotStatus is the state of a snapshot's row.
type SnapshotStatus = reconcile.SnapshotStatus

// The statuses of snapshots.
const (
	SnapshotCreating = reconcile.SnapshotCreating
	SnapshotReady    = reconcile.SnapshotReady
	SnapshotDeleting = reconcile.SnapshotDeleting
	SnapshotError    = reconcile.SnapshotError
)

// SnapshotStatuses lists every SnapshotStatus.
func SnapshotStatuses() []SnapshotStatus { return reconcile.SnapshotStatuses() }

// Snapshot is a snapshot as the control plane knows it: the row.
type Snapshot struct {
	ID     sandbox.SnapshotID
	Kind   SnapshotKind
	Status SnapshotStatus
	// Name is the user's, not unique, and may be empty.
	Name string
	// TemplateName is the template that it is, or empty. It is unique.
	TemplateName string
	// Of is the sandbox, in the incarnation that it was taken of. Its row may
	// be gone.
	Of     sandbox.Ref
	HostID string
	// Spec holds only the template, the sizes, the runtime, and the user and directory
	// of commands of a sandbox made from it.
	Spec sandbox.Spec
	// DiskOnly: it has no memory, and sandboxes boot from its disk.
	DiskOnly bool
	// Bytes is its space on the host's disk, Users the sandboxes based on it;
	// both as its host last said.
	Bytes uint64
	Users int
	// PauseWindow is the time for which the VM was stopped for it.
	PauseWindow time.Duration
	CreatedAt   time.Time
	UpdatedAt   time.Time
	// Metadata is the user's own, kept and returned as given.
	Metadata map[string]string
}

// ObservedSnapshot is a snapshot as its host knows it.
type ObservedSnapshot struct {
	ID   sandbox.SnapshotID
	Of   sandbox.Ref
	Spec sandbox.Spec
	// TemplateDigest is the digest of the image it is based on.
	TemplateDigest string
	CreatedAt      time.Time
	Bytes          uint64
	Users          int
	// Deleted: only kept for its users.
	Deleted     bool
	PauseWindow time.Duration
	// DiskOnly: it has no memory, and sandboxes boot from it.
	DiskOnly bool
}

// SnapshotMove is one step of a snapshot's life, made if the row still has one
// of the statuses From.
type SnapshotMove struct {
	ID   sandbox.SnapshotID
	From []SnapshotStatus
	To   SnapshotStatus
	// Observed, when given, is the host's observed state of the snapshot.
	Observed *ObservedSnapshot
}

// ResolvedTemplate is a template with the build that a tag names.
type ResolvedTemplate struct {
	ID, Name string
	// Tags are its tags, in order, and Status that of its newest build.
	Tags   []string
	Status string
	// Build is the build, and empty if the template has no such tag.
	Build string
	// BuildStatus is that of the build, in the words of package templates.
	BuildStatus string
	// Snapshot is empty unless the build is ready and its snapshot is kept.
	Snapshot sandbox.SnapshotID
	// User and Workdir are those of sandbox.Spec.
	User, Workdir string
	// Env is the environment of the template, over which that of a create wins.
	Env map[string]string
}

// SnapshotQuota bounds the named snapshots of the installation. Zero bytes is
// no bound.
type SnapshotQuota struct {
	Count int
	Bytes uint64
}

// SnapshotFilter narrows a list of snapshots. The zero value is every named one.
type SnapshotFilter struct {
	SandboxID sandbox.ID
	Name      string
	// Limit and Cursor are as in Filter.
	Limit  int
	Cursor string
}

// SnapshotRows are the snapshots, one row each.
type SnapshotRows interface {
	// InsertSnapshot writes a new row, status Creating, unless q is used up,
	// which is a Quota fault. The row comes back with its timestamps.
	InsertSnapshot(ctx context.Context, s Snapshot, q SnapshotQuota) (Snapshot, error)
	// GetSnapshot returns NotFound with ReasonSnapshotNotFound for an id that
	// has no row.
	GetSnapshot(ctx context.Context, id sandbox.SnapshotID) (Snapshot, error)
	// TemplateSnapshot returns the snapshot that is the template name, or
	// NotFound.
	TemplateSnapshot(ctx context.Context, name string) (Snapshot, error)
	// ResolveTemplate finds a template by id or name, and the build that tag names: a tag
	// or the id of a build. It is NotFound if there is no such template.
	ResolveTemplate(ctx context.Context, name, tag string) (ResolvedTemplate, error)
	// CountSpawn counts a sandbox that was created from the template id. An id that is
	// gone is no error.
	CountSpawn(ctx context.Context, templateID string) error
	// ListSnapshots returns named ones, newest first, and the cursor of the
	// next page or "".
	ListSnapshots(ctx context.Context, f SnapshotFilter) ([]Snapshot, string, error)
	// MoveSnapshot is a compare-and-set as Rows.Move. A template is never
	// moved to Deleting. A row that is gone is NotFound.
	MoveSnapshot(ctx context.Context, m SnapshotMove) (row Snapshot, won bool, err error)
	// NameTemplate makes a ready snapshot the template name, or none for "".
	// won is false when it is not ready; the error is Exists when the name is
	// another's.
	NameTemplate(ctx context.Context, id sandbox.SnapshotID, name string) (row Snapshot, won bool, err error)
	// SnapshotsOf returns every row of a host, of any kind and status.
	SnapshotsOf(ctx context.Context, hostID string) ([]Snapshot, error)
	// MeasureSnapshot writes the size and the number of users that the host reports.
	MeasureSnapshot(ctx context.Context, v ObservedSnapshot) error
	// RemoveSnapshot deletes a row. One that is gone is no error.
	RemoveSnapshot(ctx context.Context, id sandbox.SnapshotID) error
	// RemoveFailedSnapshots deletes rows that have been in Error for age.
	RemoveFailedSnapshots(ctx context.Context, age time.Duration) error
}

// NewSnapshot is a request to create a snapshot.
type NewSnapshot struct {
	Name     string
	Metadata map[string]string
	// Force keeps memory and disk of a guest that does not answer without its
	// help, instead of failing with Unavailable guest_unresponsive.
	Force bool
	// DiskOnly keeps no memory: sandboxes that are made from the snapshot boot from its
	// disk. The guest has to answer, so that it is Invalid together with Force.
	DiskOnly bool
}

// Snapshots are the operations of the API on named snapshots.
type Snapshots interface {
	// CreateSnapshot returns when the snapshot is durable. The sandbox must be
	// running or paused, and stays that.
	CreateSnapshot(ctx context.Context, id sandbox.ID, n NewSnapshot) (Snapshot, error)
	GetSnapshot(ctx context.Context, id sandbox.SnapshotID) (Snapshot, error)
	// ListSnapshots returns newest first, and the cursor of the next page or
	// "".
	ListSnapshots(ctx context.Context, f SnapshotFilter) ([]Snapshot, string, error)
	// DeleteSnapshot refuses a snapshot that is a template with WrongState.
	DeleteSnapshot(ctx context.Context, id sandbox.SnapshotID) error
	// SetTemplate lets creates name the snapshot as their template; an empty
	// name takes that back.
	SetTemplate(ctx context.Context, id sandbox.SnapshotID, name string) (Snapshot, error)
}
