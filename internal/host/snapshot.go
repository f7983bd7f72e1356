package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/host/snapshot"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/linux/durable"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Snapshot is a sandbox's memory, devices and disk at one moment, kept under
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
}

type snapshotRequest struct {
	id        sandbox.SnapshotID
	ephemeral bool
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
	return m.take(ctx, request{op: journal.OpSnapshot, ref: ref, snapshot: &snapshotRequest{id, ephemeral}})
}

// ForceSnapshot is Snapshot, but of a guest that does not answer memory and disk
// are kept without its help. A sandbox that is made from such a snapshot is only
// handed out if its guest answers and can be renewed.
func (m *Manager) ForceSnapshot(ctx context.Context, ref sandbox.Ref, id sandbox.SnapshotID, ephemeral bool) (Snapshot, error) {
	return m.take(ctx, request{op: journal.OpSnapshot, ref: ref, snapshot: &snapshotRequest{id, ephemeral}, force: true})
}

func (m *Manager) take(ctx context.Context, r request) (Snapshot, error) {
	ref, id := r.ref, r.snapshot.id
	if have, err := m.snapshotAt(m.layout.snapshot(id)); err == nil {
		if have.Of.ID == ref.ID && !have.Deleted {
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
	}, nil
}

// publicSpec is spec without its secrets.
func publicSpec(spec sandbox.Spec) sandbox.Spec {
	spec.Env = nil
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

// snapshot is the operation on a machine.
func (m *machine) snapshot(life context.Context, r *snapshotRequest, force bool) error {
	if m.rec.State != sandbox.Running && m.rec.State != sandbox.Paused {
		return fault.New(fault.WrongState, reasonNotRunning, "the sandbox is %s, neither running nor paused", m.rec.State.Status())
	}
	if _, err := os.Stat(m.mgr.layout.snapshot(r.id).Manifest()); err == nil {
		return nil // the same question, asked while the first was under way
	}
	if err := m.mgr.diskReserve(); err != nil {
		return err
	}
	ctx, done := m.interruptible(life)
	defer done()
	take := m.copyPaused
	if m.rec.State == sandbox.Running {
		helps, err := m.mayStop(ctx, force)
		if err != nil {
			return err
		}
		take = func(ctx context.Context, tmp snapshot.Dir) (snapshot.Manifest, error) {
			return m.copyRunning(ctx, tmp, helps, force)
		}
	}
	m.begin(journal.OpSnapshot)
	partial := snapshot.PartialPrefix + string(r.id)
	defer m.mgr.snapshots.Taking(partial)()
	tmp := snapshot.Dir(filepath.Join(m.mgr.layout.snapshots(), partial))
	mf, err := take(ctx, tmp)
	if err == nil {
		err = m.publishSnapshot(ctx, tmp, r, mf)
	}
	if life.Err() != nil {
		return err // the agent is closing; the next one clears up
	}
	if err != nil {
		err = errors.Join(err, os.RemoveAll(string(tmp)))
	}
	if m.rec.State == sandbox.Stopped || m.halfFreed() {
		return err
	}
	m.conclude(ctx, m.rec.State)
	m.publish(m.rec.State)
	if f := fault.As(err); err == nil || f.Kind != fault.Internal {
		return err
	}
	return fault.Wrap(err, fault.HostFailed, "snapshot_failed", "the snapshot could not be taken; the sandbox is as it was")
}

func (b *body) publishSnapshot(ctx context.Context, tmp snapshot.Dir, r *snapshotRequest, mf snapshot.Manifest) error {
	err := b.step(ctx, journal.StepSnapshotSeal, func(ctx context.Context) error {
		mf.Ephemeral = r.ephemeral
		return b.mgr.snapshots.Seal(ctx, tmp, mf, !r.ephemeral)
	})
	if err != nil {
		return err
	}
	return b.step(ctx, journal.StepSnapshotCommit, func(context.Context) error {
		to := b.mgr.layout.snapshot(r.id)
		if r.ephemeral {
			return os.Rename(string(tmp), string(to))
		}
		return tmp.Publish(to)
	})
}

// copyRunning copies the running sandbox to tmp. The VM is stopped from the step
// snapshot.stop to snapshot.cont, while the last changes are copied.
//
// helps says that the guest answers; one that does not freeze its processes in
// time all the same fails the snapshot, unless force is set.
func (m *machine) copyRunning(ctx context.Context, tmp snapshot.Dir, helps, force bool) (mf snapshot.Manifest, err error) {
	ahead := &liveCopy{machine: m, tmp: tmp}
	if err := m.step(ctx, journal.StepSnapshotPrepare, ahead.prepare); err != nil {
		return mf, err
	}
	defer ahead.close(ctx)
	if err := m.step(ctx, journal.StepSnapshotAhead, ahead.begin); err != nil {
		return mf, fmt.Errorf("%s: %w", journal.StepSnapshotAhead, err)
	}
	var stood time.Time
	forced := false
	for _, s := range []step{
		{journal.StepSnapshotFreeze, func(ctx context.Context) error {
			stood = time.Now()
			err := errSilent(nil)
			if helps {
				err = m.freezeWith(ctx, m.Guest().Hold)
			}
			if forced = err != nil; forced && force && ctx.Err() == nil && !m.EndsSoon() {
				m.log.WarnContext(ctx, "taking a snapshot without the guest's help", "error", err)
				return nil
			}
			return err
		}},
		{journal.StepSnapshotStop, func(ctx context.Context) error { return m.VM.Pause(ctx) }},
		{journal.StepSnapshotSave, ahead.finishSave},
		{journal.StepSnapshotDisk, ahead.finishDisk},
	} {
		ctx, cancel := context.WithTimeout(ctx, m.mgr.cfg.BootTimeout)
		err = m.step(ctx, s.name, s.do)
		cancel()
		if err != nil {
			err = fmt.Errorf("%s: %w", s.name, err)
			break
		}
	}
	mf = m.manifest(m.captured)
	mf.Token, mf.Forced = m.rec.Token, forced
	if contErr := m.continueAfterSnapshot(ctx, helps); contErr != nil {
		return mf, errors.Join(err, contErr)
	}
	mf.PauseWindow = time.Since(stood)
	return mf, err
}

// continueAfterSnapshot starts the VM again that was stopped for a snapshot. A guest
// that does not answer then is reconfigured when it does. asked reports that the
// guest was told to freeze its processes.
func (m *machine) continueAfterSnapshot(ctx context.Context, asked bool) error {
	if m.beingDestroyed() {
		return errDestroyed() // the destroy that waits ends it
	}
	if ctx.Err() != nil {
		return context.Cause(ctx) // the agent is closing; the next one starts the VM again
	}
	err := m.step(ctx, journal.StepSnapshotCont, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, m.mgr.cfg.GuestTimeout)
		defer cancel()
		ctx, stop := m.UntilExit(ctx)
		defer stop()
		if err := m.VM.Resume(ctx); err != nil || !asked {
			return causeOr(ctx, err)
		}
		_, err := m.Guest().Release(ctx, 0)
		if err != nil {
			err = m.reconfigure(ctx)
		}
		return causeOr(ctx, err)
	})
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case m.EndsSoon():
		m.onExit(ctx)
		return fault.Wrap(err, fault.HostFailed, "sandbox_lost", "the sandbox's VM ended while its snapshot was taken")
	}
	m.commitSilentGuest(ctx, err)
	return nil
}

// copyPaused copies the paused sandbox to tmp and changes nothing of it.
func (b *body) copyPaused(ctx context.Context, tmp snapshot.Dir) (mf snapshot.Manifest, err error) {
	snap := b.pauseDir(b.rec.Pause)
	for _, s := range []step{
		{journal.StepSnapshotPrepare, func(ctx context.Context) error {
			return errors.Join(b.checkPause(snap), tmp.Recreate())
		}},
		{journal.StepSnapshotSave, func(ctx context.Context) error {
			return snapshot.HideDamage(b.mgr.driver.Flatten(ctx, vmm.Image{Base: b.rec.Base, Delta: string(snap)}, string(tmp)))
		}},
		{journal.StepSnapshotDisk, func(ctx context.Context) error {
			_, err := disk.Clone(ctx, tmp.Disk(), b.Dir.Disk())
			return err
		}},
	} {
		if err := b.step(ctx, s.name, s.do); err != nil {
			return mf, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	mf, err = snapshot.ReadManifest(snap)
	mf.Spec, mf.CreatedAt = b.rec.Spec, time.Now()
	return mf, err
}
