package control

import (
	"context"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// NewMachine is a request for a sandbox in which a template is built.
type NewMachine struct {
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

// GetKept finds a snapshot of any kind, also one that GetSnapshot hides. Only the builder
// of templates calls it. It is NotFound with ReasonSnapshotNotFound if there is none.
func (s *snapshots) GetKept(ctx context.Context, id sandbox.SnapshotID) (Snapshot, error) {
	return s.store.GetSnapshot(ctx, id)
}
