package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/host/snapshot"
	"github.com/wrenn-dev/wrenn/internal/linux/durable"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Snapshot is a sandbox's memory, devices and disk at one moment, or its disk alone, kept under
// an id of its own, from which any number of sandboxes can be made.
type Snapshot struct {
	ID             sandbox.SnapshotID
	Of             sandbox.Ref
	Spec           sandbox.Spec // of the sandboxes that are created from it
	TemplateDigest string
	CreatedAt      time.Time
	// Bytes is the space it takes. Blocks shared by reflink count in each snapshot.
	Bytes uint64
	// Users are the sandboxes of this host that are based on it.
	Users int
	// Deleted: only kept for its users.
	Deleted bool
	// PauseWindow is the time for which the VM was stopped for the snapshot.
	PauseWindow time.Duration
	// DiskOnly: it has no memory, and sandboxes that are made from it boot from its disk.
	DiskOnly bool
}

type snapshotRequest struct {
	id        sandbox.SnapshotID
	ephemeral bool
	diskOnly  bool
}

// Snapshot saves the sandbox of ref, running or paused, under id. The sandbox keeps
// its state. A running one is stopped for the pause window, and its connections and
// commands continue after it. The snapshot is durable on return, unless it is
// ephemeral: then it serves sandboxes that are about to be created from it, and the
// next agent removes it.
//
// If the guest does not answer, Snapshot fails with Unavailable
// guest_unresponsive and the sandbox keeps running.
func (m *Manager) Snapshot(ctx context.Context, ref sandbox.Ref, id sandbox.SnapshotID, ephemeral bool) (Snapshot, error) {
	return m.take(ctx, request{op: journal.OpSnapshot, ref: ref, snapshot: &snapshotRequest{id: id, ephemeral: ephemeral}})
}

// ForceSnapshot is Snapshot, but of a guest that does not answer memory and disk
// are kept without its help. A sandbox that is made from such a snapshot is only
// handed out if its guest answers and can be renewed.
func (m *Manager) ForceSnapshot(ctx context.Context, ref sandbox.Ref, id sandbox.SnapshotID, ephemeral bool) (Snapshot, error) {
	return m.take(ctx, request{op: journal.OpSnapshot, ref: ref, snapshot: &snapshotRequest{id: id, ephemeral: ephemeral}, force: true})
}

// SnapshotDisk is Snapshot without the memory: a sandbox that is made from it boots from
// the disk. The guest of a running sandbox writes its file systems back for it. An upload that
// is under way leaves a temporary file in the copy.
//
// The disk of a pause with memory is not complete without that memory, so that it fails
// with WrongState paused_with_memory.
func (m *Manager) SnapshotDisk(ctx context.Context, ref sandbox.Ref, id sandbox.SnapshotID, ephemeral bool) (Snapshot, error) {
	return m.take(ctx, request{op: journal.OpSnapshot, ref: ref, snapshot: &snapshotRequest{id: id, ephemeral: ephemeral, diskOnly: true}})
}

func (m *Manager) take(ctx context.Context, r request) (Snapshot, error) {
	ref, id := r.ref, r.snapshot.id
	if have, err := m.snapshotAt(m.layout.snapshot(id)); err == nil {
		if have.Of.ID == ref.ID && have.DiskOnly == r.snapshot.diskOnly && !have.Deleted {
			return have, nil
		}
		return Snapshot{}, fault.New(fault.Exists, "snapshot_exists", "this host already has a snapshot with the id %s", id)
	}
	mc, err := m.find(ref.ID)
	if err != nil {
		return Snapshot{}, err
	}
	if err := mc.ask(ctx, r); err != nil {
		return Snapshot{}, err
	}
	return m.snapshotAt(m.layout.snapshot(id))
}

// snapshotAt describes the named snapshot in dir.
func (m *Manager) snapshotAt(dir snapshot.Dir) (Snapshot, error) {
	mf, err := snapshot.ReadManifest(dir)
	if err != nil {
		return Snapshot{}, err
	}
	_, deleted := os.Stat(dir.Deleted())
	return Snapshot{
		ID: sandbox.SnapshotID(filepath.Base(string(dir))), Of: mf.Of, Spec: publicSpec(mf.Spec),
		TemplateDigest: mf.TemplateDigest, CreatedAt: mf.CreatedAt, Bytes: snapshot.Usage(dir),
		Users: m.snapshots.Users(dir), Deleted: deleted == nil, PauseWindow: mf.PauseWindow,
		DiskOnly: mf.DiskOnly,
	}, nil
}

// publicSpec is spec without its secrets.
func publicSpec(spec sandbox.Spec) sandbox.Spec {
	spec.Env, spec.EnvdToken = nil, ""
	return spec
}

// Snapshots returns every named snapshot, in no order.
func (m *Manager) Snapshots() ([]Snapshot, error) {
	dirs, err := filepath.Glob(filepath.Join(m.layout.snapshots(), "[a-z0-9]*"))
	if err != nil {
		return nil, err
	}
	out := make([]Snapshot, 0, len(dirs))
	for _, dir := range dirs {
		if s, err := m.snapshotAt(snapshot.Dir(dir)); err == nil {
			out = append(out, s)
		}
	}
	return out, nil
}

// DeleteSnapshot makes a snapshot unusable at once. Its files go when the last
// sandbox that is based on it has gone. An id that is not known succeeds.
func (m *Manager) DeleteSnapshot(ctx context.Context, id sandbox.SnapshotID) error {
	dir := m.layout.snapshot(id)
	if _, err := os.Stat(string(dir)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := os.WriteFile(dir.Deleted(), nil, 0o600); err != nil {
		return fault.Wrap(err, fault.HostFailed, "snapshot_not_deleted", "the snapshot could not be deleted")
	}
	if err := durable.Sync(string(dir)); err != nil {
		return err
	}
	if m.snapshots.UnderOldBuild(dir) {
		defer m.collectSoon()
	}
	if _, err := m.snapshots.Remove(dir); err != nil {
		m.log.WarnContext(ctx, "could not remove the files of a snapshot; the next collection does", "snapshot", id, "error", err)
	}
	return nil
}
