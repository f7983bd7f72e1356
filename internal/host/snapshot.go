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
	"github.com/wrenn-dev/wrenn/internal/host/memory"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Snapshot is a sandbox's memory, devices and disk at one moment, kept under
// an id of its own, from which any number of sandboxes can be made.
type Snapshot struct {
	ID             sandbox.SnapshotID
	Of             sandbox.Ref
	Spec           sandbox.Spec // what a sandbox made from it will be
	TemplateDigest string
	CreatedAt      time.Time
	// Bytes is the space it takes. What is shared by reflink counts in each.
	Bytes uint64
	// Users are the sandboxes of this host that are based on it.
	Users int
	// Deleted: only kept for its users.
	Deleted bool
	// PauseWindow is how long the sandbox stood still for it.
	PauseWindow time.Duration
}

type snapshotRequest struct {
	id        sandbox.SnapshotID
	ephemeral bool
}

// Snapshot keeps the sandbox of ref, running or paused, under id. The sandbox
// is left as it was: a running one stands still for the pause window, its
// connections and commands go on. The snapshot is durable on return, unless it
// is ephemeral: then it is for sandboxes that are about to be made from it, and
// the next agent removes it.
func (m *Manager) Snapshot(ctx context.Context, ref sandbox.Ref, id sandbox.SnapshotID, ephemeral bool) (Snapshot, error) {
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
	if err := mc.ask(ctx, request{op: opSnapshot, ref: ref, snapshot: &snapshotRequest{id, ephemeral}}); err != nil {
		return Snapshot{}, err
	}
	return m.snapshotAt(m.layout.snapshot(id))
}

// snapshotAt describes the named snapshot in dir.
func (m *Manager) snapshotAt(dir snapshotDir) (Snapshot, error) {
	mf, err := manifestOf(dir)
	if err != nil {
		return Snapshot{}, err
	}
	_, deleted := os.Stat(dir.deleted())
	return Snapshot{
		ID: sandbox.SnapshotID(filepath.Base(string(dir))), Of: mf.Of, Spec: publicSpec(mf.Spec),
		TemplateDigest: mf.TemplateDigest, CreatedAt: mf.CreatedAt, Bytes: diskUsage(dir),
		Users: m.bases.count(dir), Deleted: deleted == nil, PauseWindow: mf.PauseWindow,
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
		if s, err := m.snapshotAt(snapshotDir(dir)); err == nil {
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
	if err := os.WriteFile(dir.deleted(), nil, 0o600); err != nil {
		return fault.Wrap(err, fault.HostFailed, "snapshot_not_deleted", "the snapshot could not be deleted")
	}
	if err := syncDir(string(dir)); err != nil {
		return err
	}
	if m.underOldBuild(dir) {
		defer m.collectSoon()
	}
	if _, err := m.bases.remove(dir); err != nil {
		m.log.WarnContext(ctx, "could not remove the files of a snapshot; the next collection does", "snapshot", id, "error", err)
	}
	return nil
}

// snapshot is the operation on a machine.
func (m *machine) snapshot(ctx context.Context, r *snapshotRequest) error {
	if m.rec.State != sandbox.Running && m.rec.State != sandbox.Paused {
		return fault.New(fault.WrongState, reasonNotRunning, "the sandbox is %s, neither running nor paused", m.rec.State.Status())
	}
	if _, err := os.Stat(m.mgr.layout.snapshot(r.id).manifest()); err == nil {
		return nil // the same question, asked while the first was under way
	}
	if err := m.mgr.diskReserve(); err != nil {
		return err
	}
	m.begin(opSnapshot)
	partial := partialPrefix + string(r.id)
	m.mgr.taking.Store(partial, true)
	defer m.mgr.taking.Delete(partial)
	tmp := snapshotDir(filepath.Join(m.mgr.layout.snapshots(), partial))
	take := m.copyRunning
	if m.rec.State == sandbox.Paused {
		take = m.copyPaused
	}
	mf, err := take(ctx, tmp)
	if err == nil {
		err = m.publishSnapshot(ctx, tmp, r, mf)
	}
	if ctx.Err() != nil {
		return err // the agent is closing; the next one clears up
	}
	if err != nil {
		err = errors.Join(err, os.RemoveAll(string(tmp)))
	}
	if m.rec.State == sandbox.Stopped {
		return err
	}
	m.conclude(ctx, m.rec.State)
	m.publish(m.rec.State)
	if f := fault.As(err); err == nil || f.Kind != fault.Internal {
		return err
	}
	return fault.Wrap(err, fault.HostFailed, "snapshot_failed", "the snapshot could not be taken; the sandbox is as it was")
}

// partialPrefix marks a snapshot that is being taken.
const partialPrefix = ".new-"

func (m *machine) publishSnapshot(ctx context.Context, tmp snapshotDir, r *snapshotRequest, mf manifest) error {
	err := m.step(ctx, StepSnapshotSeal, func(ctx context.Context) error {
		mf.Ephemeral = r.ephemeral
		return m.mgr.seal(ctx, tmp, mf, !r.ephemeral)
	})
	if err != nil {
		return err
	}
	return m.step(ctx, StepSnapshotCommit, func(context.Context) error {
		to := m.mgr.layout.snapshot(r.id)
		if r.ephemeral {
			return os.Rename(string(tmp), string(to))
		}
		return moveInto(tmp, to)
	})
}

// prepareSnapshot makes the directory and the copy of the base's memory that
// the machine's changes are written into.
func (m *machine) prepareSnapshot(ctx context.Context, tmp snapshotDir) error {
	if err := errors.Join(os.RemoveAll(string(tmp)), os.Mkdir(string(tmp), 0o700)); err != nil {
		return err
	}
	_, err := disk.Clone(ctx, tmp.memory(), m.base().memory())
	return err
}

// copyRunning copies the running machine to tmp. It stands still from freeze
// to cont, for what could not be copied ahead of that.
func (m *machine) copyRunning(ctx context.Context, tmp snapshotDir) (mf manifest, err error) {
	err = m.step(ctx, StepSnapshotPrepare, func(ctx context.Context) error { return m.prepareSnapshot(ctx, tmp) })
	if err != nil {
		return mf, err
	}
	ahead := &liveCopy{machine: m, tmp: tmp}
	defer ahead.close(ctx)
	if err := m.step(ctx, StepSnapshotAhead, ahead.begin); err != nil {
		return mf, fmt.Errorf("%s: %w", StepSnapshotAhead, err)
	}
	var stood time.Time
	for _, s := range []step{
		{StepSnapshotFreeze, func(ctx context.Context) error {
			ctx, stop := m.untilExit(ctx)
			defer stop()
			stood = time.Now()
			return causeOr(ctx, m.guest.Hold(ctx))
		}},
		{StepSnapshotStop, func(ctx context.Context) error { return m.vm.Pause(ctx) }},
		{StepSnapshotState, func(ctx context.Context) error { return m.saveState(ctx, tmp) }},
		{StepSnapshotMemory, ahead.finishMemory},
		{StepSnapshotDisk, ahead.finishDisk},
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
	mf.Token = m.rec.Token
	if contErr := m.goOn(ctx); contErr != nil {
		return mf, errors.Join(err, contErr)
	}
	mf.PauseWindow = time.Since(stood)
	return mf, err
}

// goOn lets the machine go on after it stood still for a snapshot. A machine
// that cannot is lost.
func (m *machine) goOn(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx) // the agent is closing; the next one has it go on
	}
	err := m.step(ctx, StepSnapshotCont, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, m.mgr.cfg.BootTimeout)
		defer cancel()
		ctx, stop := m.untilExit(ctx)
		defer stop()
		if err := m.vm.Resume(ctx); err != nil {
			return err
		}
		_, err := m.guest.Release(ctx, 0)
		if err != nil {
			err = m.reconfigure(ctx)
		}
		return causeOr(ctx, err)
	})
	if err == nil || ctx.Err() != nil {
		return err
	}
	m.finish(ctx, sandbox.ReasonVMMCrash, err.Error())
	return fault.Wrap(err, fault.HostFailed, "sandbox_lost", "the sandbox did not go on after its snapshot")
}

// copyPaused copies the paused machine to tmp. Nothing of it is touched.
func (m *machine) copyPaused(ctx context.Context, tmp snapshotDir) (mf manifest, err error) {
	snap := m.dir.pause(m.rec.Snapshot)
	for _, s := range []step{
		{StepSnapshotPrepare, func(ctx context.Context) error {
			return errors.Join(m.checkPause(snap), m.prepareSnapshot(ctx, tmp))
		}},
		{StepSnapshotState, func(ctx context.Context) error {
			_, err := disk.Clone(ctx, tmp.state(), snap.state())
			return err
		}},
		{StepSnapshotMemory, func(ctx context.Context) error { return m.wholeOfPause(ctx, snap, tmp) }},
		{StepSnapshotDisk, func(ctx context.Context) error {
			_, err := disk.Clone(ctx, tmp.disk(), m.dir.disk())
			return err
		}},
	} {
		if err := m.step(ctx, s.name, s.do); err != nil {
			return mf, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	mf, err = manifestOf(snap)
	mf.Spec, mf.CreatedAt = m.rec.Spec, time.Now()
	return mf, err
}

func (m *machine) wholeOfPause(ctx context.Context, snap, tmp snapshotDir) error {
	diff, err := os.Open(snap.diff())
	if err != nil {
		return err
	}
	defer diff.Close()
	whole, err := os.OpenFile(tmp.memory(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = memory.ApplyToFile(ctx, diff, whole)
	if errors.Is(err, memory.ErrDamaged) {
		err = errDamaged(err, "its memory is not what was saved")
	}
	return errors.Join(err, whole.Close())
}
