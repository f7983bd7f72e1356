package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/host/snapshot"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// snapshot takes a snapshot of the sandbox, which may run or be paused.
func (m *machine) snapshot(life context.Context, r *snapshotRequest, force bool) error {
	if m.rec.State != sandbox.Running && m.rec.State != sandbox.Paused {
		return fault.New(fault.WrongState, reasonNotRunning, "sandbox %s is %s, neither running nor paused", m.rec.ID, m.rec.State.Status())
	}
	if _, err := os.Stat(m.mgr.layout.snapshot(r.id).Manifest()); err == nil {
		return nil // the same request, sent while the first was under way
	}
	if err := m.mgr.diskReserve(); err != nil {
		return err
	}
	ctx, done := m.interruptible(life)
	defer done()
	if m.rec.DiskOnly && !r.diskOnly {
		return fault.New(fault.WrongState, reasonNoMemory,
			"sandbox %s was paused without its memory, so that no copy of it can run; resume it first", m.rec.ID)
	}
	if m.rec.State == sandbox.Paused && !m.rec.DiskOnly && r.diskOnly {
		return fault.New(fault.WrongState, reasonWithMemory,
			"sandbox %s was paused with its memory, without which its disk is not complete; resume it first, or leave the memory in", m.rec.ID)
	}
	take := m.copyPaused
	if m.rec.State == sandbox.Running {
		helps, err := m.mayStop(ctx, force)
		if err != nil {
			return err
		}
		take = func(ctx context.Context, tmp snapshot.Dir) (snapshot.Manifest, error) {
			return m.copyRunning(ctx, tmp, r.diskOnly, helps, force)
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
	return fault.Wrap(err, fault.HostFailed, "snapshot_failed", "the snapshot could not be taken; the sandbox has not changed: try again, and see the host agent's log")
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
// time all the same fails the snapshot, unless force is set. With diskOnly the guest
// writes its file systems back, and the memory is saved only with a driver that keeps the
// disk in it.
func (m *machine) copyRunning(ctx context.Context, tmp snapshot.Dir, diskOnly, helps, force bool) (mf snapshot.Manifest, err error) {
	ahead := &liveCopy{machine: m, tmp: tmp, diskOnly: diskOnly && m.hasDiskFile()}
	m.captured = vmm.SaveStats{}
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
			if diskOnly {
				return m.holdToDisk(ctx)
			}
			err := errSilent(nil)
			if helps {
				err = m.freezeWith(ctx, m.mgr.cfg.GuestTimeout, m.Guest().Hold)
			}
			if forced = err != nil; forced && force && ctx.Err() == nil && !m.EndsSoon() {
				m.log.WarnContext(ctx, "taking a snapshot without the guest's help", "error", err)
				return nil
			}
			return err
		}},
		{journal.StepSnapshotStop, func(ctx context.Context) error { return m.VM.Pause(ctx) }},
		{journal.StepSnapshotSave, func(ctx context.Context) error {
			err := ahead.finishSave(ctx)
			if err == nil && diskOnly {
				err = m.checkBootable(m.captured.Kept)
			}
			return err
		}},
		{journal.StepSnapshotDisk, ahead.finishDisk},
	} {
		limit := m.mgr.cfg.BootTimeout
		if diskOnly && s.name == journal.StepSnapshotFreeze {
			limit = 2 * (m.diskTimeout() + freezeGrace) // freezeWith ends it before that, with its own error
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		err = m.step(ctx, s.name, s.do)
		cancel()
		if err != nil {
			err = fmt.Errorf("%s: %w", s.name, err)
			break
		}
	}
	mf = m.manifest(m.captured)
	mf.Token, mf.Forced, mf.DiskOnly = m.rec.Token, forced, diskOnly
	if diskOnly {
		mf.Token = "" // a guest that boots has none
	}
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
		return causeOr(ctx, m.thaw(ctx))
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

// thaw continues the processes of a guest that holds them, or has sealed itself.
func (b *body) thaw(ctx context.Context) error {
	_, err := b.Guest().Release(ctx, 0)
	if err != nil {
		err = b.reconfigure(ctx)
	}
	return err
}

// holdToDisk has the guest freeze its processes and write its file systems back, for a copy of
// its disk after which it continues. An agent of an earlier version in the guest can only do
// that when it seals itself, which cuts off the calls that are under way.
func (b *body) holdToDisk(ctx context.Context) error {
	return b.freezeWith(ctx, b.diskTimeout(), func(ctx context.Context) error {
		synced, err := b.Guest().HoldToDisk(ctx)
		if err != nil || synced {
			return err
		}
		if _, err := b.Guest().Release(ctx, 0); err != nil {
			return err
		}
		_, err = b.Guest().QuiesceToDisk(ctx)
		return err
	})
}

// copyPaused copies the paused sandbox to tmp and changes nothing of it. The copy has a
// memory if the pause has one.
func (b *body) copyPaused(ctx context.Context, tmp snapshot.Dir) (mf snapshot.Manifest, err error) {
	snap := b.pauseDir(b.rec.Pause)
	for _, s := range []step{
		{journal.StepSnapshotPrepare, func(ctx context.Context) error {
			check := b.checkPause
			if b.rec.DiskOnly {
				check = b.checkDiskPause
			}
			return errors.Join(check(snap), tmp.Recreate())
		}},
		{journal.StepSnapshotSave, func(ctx context.Context) error {
			if b.rec.DiskOnly && b.hasDiskFile() {
				return nil
			}
			return snapshot.HideDamage(b.Driver().Flatten(ctx, vmm.Image{Base: b.rec.Base, Delta: string(snap)}, string(tmp)))
		}},
		{journal.StepSnapshotDisk, func(ctx context.Context) error { return b.copyDiskTo(ctx, tmp) }},
	} {
		if err := b.step(ctx, s.name, s.do); err != nil {
			return mf, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	mf, err = snapshot.ReadManifest(snap)
	mf.Spec, mf.CreatedAt = b.rec.Spec, time.Now()
	if mf.DiskOnly = b.rec.DiskOnly; mf.DiskOnly {
		mf.Token, mf.Forced = "", false
	}
	return mf, err
}
