package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/host/snapshot"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/linux/durable"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// pauseReserve is the free space, in bytes, below which no pause is begun:
// enough for the journal of a pause that fails for lack of room and is undone.
const pauseReserve = 32 << 20

// pause saves the sandbox and frees its VM. Pausing a paused sandbox of the same
// generation succeeds, so that the control plane can repeat the request. On a full
// disk it fails with NoCapacity and the sandbox keeps running. If the guest does
// not answer it fails as well, unless force is set: then memory and disk are saved
// without the guest's help.
//
// With diskOnly nothing but the disk is kept, the guest's help is always required, and
// force has no effect.
func (m *machine) pause(life context.Context, force, diskOnly bool) error {
	switch m.rec.State {
	case sandbox.Paused:
		return nil
	case sandbox.Running:
	default:
		return fault.New(fault.WrongState, reasonNotRunning, "sandbox %s is %s, not running", m.rec.ID, m.rec.State.Status())
	}
	if err := disk.CheckReserve(m.mgr.cfg.Dir, pauseReserve); err != nil {
		return err
	}
	if m.diskFull {
		return errDiskFull()
	}
	force = force && !diskOnly
	// A pause that could not be resumed would lose a sandbox that runs.
	if _, err := m.mgr.snapshots.BuildOf(m.base()); err != nil && !(diskOnly && m.hasDiskFile()) {
		return err
	}
	ctx, done := m.interruptible(life)
	defer done()
	helps, err := m.mayStop(ctx, force)
	if err != nil {
		return err
	}
	m.begin(journal.OpPause)
	m.publish(sandbox.Pausing)
	if err := m.writePause(ctx, helps, force, diskOnly); err != nil {
		return m.abandonPause(life, err)
	}
	if err := m.step(life, journal.StepPauseFree, m.free); err != nil {
		// The snapshot is complete and the row may say so. The alarm, the next
		// operation or the next agent frees the rest of the VM.
		m.log.ErrorContext(life, "could not free a paused VM", "error", err)
	}
	m.conclude(ctx, sandbox.Paused)
	m.publish(sandbox.Paused)
	return nil
}

// mayStop checks, before an operation begins, whether the VM can be stopped for a
// copy of its memory. helps reports that the guest answers. It fails if the guest
// does not answer and force is not set, or if the VMM does not answer either.
func (m *machine) mayStop(ctx context.Context, force bool) (helps bool, err error) {
	if m.diskFull {
		return false, errDiskFull()
	}
	err = m.callGuest(ctx)
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case m.EndsSoon():
		return false, errEnded(sandbox.ReasonVMMCrash)
	case !force:
		return false, errSilent(err)
	}
	ask, cancel := context.WithTimeout(ctx, m.mgr.cfg.GuestTimeout)
	defer cancel()
	if err := m.VM.Ping(ask); err != nil {
		return false, fault.Wrap(causeOr(ctx, err), fault.Unavailable, "vmm_unresponsive",
			"neither the sandbox's guest nor its VMM process answers, so that not even force can stop it; nothing was changed: try again later, or delete the sandbox")
	}
	return false, nil
}

// pauseName is the directory of the pause of generation gen.
func pauseName(gen sandbox.Generation) string { return fmt.Sprintf("pause-%d", gen) }

// writePause returns once all files of the paused sandbox are durable and the
// journal says so. Its cost grows with the memory that the VM has changed since it
// was restored from its base, not with the VM's size.
//
// helps says that the guest answers; one that does not seal itself in time all
// the same fails the pause, unless force is set. With diskOnly the guest writes its file
// systems back, and the memory is saved only with a driver that keeps the disk in it.
func (m *machine) writePause(ctx context.Context, helps, force, diskOnly bool) error {
	name := pauseName(m.rec.Generation)
	snap := m.pauseDir(name)
	for _, s := range []step{
		{journal.StepPauseGate, func(ctx context.Context) error {
			m.closeGate(ctx, m.mgr.cfg.PauseGrace, fault.New(fault.WrongState, reasonPaused,
				"the sandbox was paused; the command continues after a resume, but this call does not get its further output"))
			return errors.Join(os.RemoveAll(string(snap)), os.Mkdir(string(snap), 0o700))
		}},
		{journal.StepPauseQuiesce, func(ctx context.Context) error {
			if diskOnly {
				return m.sealToDisk(ctx)
			}
			err := m.sealIf(ctx, helps)
			if m.rec.Forced = err != nil; m.rec.Forced && force && ctx.Err() == nil && !m.EndsSoon() {
				m.log.WarnContext(ctx, "pausing without the guest's help", "error", err)
				m.rec.SilentSince = m.silentSince()
				return nil
			}
			return err
		}},
		{journal.StepPauseStop, func(ctx context.Context) error { return m.VM.Pause(ctx) }},
		{journal.StepPauseSave, func(ctx context.Context) (err error) {
			m.captured = vmm.SaveStats{}
			if !diskOnly || !m.hasDiskFile() {
				m.captured, err = m.VM.SaveDelta(ctx, string(snap))
			}
			if err == nil && diskOnly {
				err = m.checkBootable(m.captured.Kept)
			}
			return err
		}},
		{journal.StepPauseSync, func(ctx context.Context) error { return m.syncPause(ctx, snap, diskOnly) }},
		{journal.StepPauseCommit, func(context.Context) error {
			m.rec.Pause, m.rec.DiskOnly = name, diskOnly
			m.rec.Step, m.rec.State = journal.StepPauseFree, sandbox.Paused
			return m.savePause()
		}},
	} {
		if err := m.step(ctx, s.name, s.do); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// syncPause makes the pause durable, disk included.
func (b *body) syncPause(ctx context.Context, snap snapshot.Dir, diskOnly bool) error {
	mf := b.manifest(b.captured)
	mf.DiskOnly = diskOnly
	if mf.Forced = b.rec.Forced; mf.Forced {
		mf.Token = b.rec.Token
	}
	if err := b.mgr.snapshots.SealDelta(ctx, snap, mf, b.diskFiles()...); err != nil {
		return err
	}
	return durable.Sync(string(b.Dir))
}

// abandonPause returns a sandbox to running whose pause failed with cause. Only the
// end of its VM ends it.
func (m *machine) abandonPause(ctx context.Context, cause error) error {
	if ctx.Err() != nil {
		return cause // the agent is closing; the next one continues from here
	}
	// The commit may have been written. Both the pause and the VM exist, and the VM
	// has not run since. The record on disk is not known, so that the present state
	// is written again.
	m.rec.State, m.rec.Pause, m.rec.Forced, m.rec.DiskOnly = sandbox.Running, "", false, false
	if m.Ended() {
		m.onExit(ctx)
		return fault.Wrap(cause, fault.HostFailed, "pause_failed", "the sandbox's VM ended while it was being paused")
	}
	if m.beingDestroyed() {
		return cause // the destroy that waits ends it
	}
	m.continueAfterPause(ctx)
	if m.Ended() {
		m.onExit(ctx)
		return fault.Wrap(cause, fault.HostFailed, "pause_failed", "the sandbox's VM ended while it was being paused")
	}
	m.publish(sandbox.Running)
	if f := fault.As(cause); f.Kind != fault.Internal {
		return cause
	}
	return fault.Wrap(cause, fault.HostFailed, "pause_failed", "the sandbox could not be paused; it still runs: try again, and see the host agent's log")
}

// continueAfterPause starts a VM again that was stopped or sealed for a pause. A
// guest that does not answer is reconfigured when it does.
func (m *machine) continueAfterPause(ctx context.Context) {
	// Before anything of the pause goes and before the VM runs: an agent that
	// reads a journal with the pause in it would end the VM.
	if err := m.save(); err != nil {
		m.log.WarnContext(ctx, "the end of a failed pause cannot be written to the journal yet", "error", err)
	}
	if err := errors.Join(journal.DropPause(string(m.Dir), true), os.RemoveAll(string(m.pauseDir(pauseName(m.rec.Generation))))); err != nil {
		m.log.WarnContext(ctx, "could not remove the files of a failed pause", "error", err)
	}
	m.dropNextEnded(ctx)
	if err := m.resumeAndReconfigure(ctx); err == nil {
		m.continueRunning(ctx)
	} else if !m.EndsSoon() {
		m.commitSilentGuest(ctx, err)
	}
}

// continueRunning commits the state running and opens the gate, whether or not the
// journal can be written.
func (m *machine) continueRunning(ctx context.Context) {
	m.rec.LastActive = time.Now()
	m.conclude(ctx, sandbox.Running)
	m.openGate()
}

// resumeAndReconfigure starts the virtual CPUs of a VM that may be stopped, and
// reconfigures its guest, which may be sealed or held.
func (m *machine) resumeAndReconfigure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.mgr.cfg.GuestTimeout)
	defer cancel()
	ctx, stop := m.UntilExit(ctx)
	defer stop()
	if err := m.VM.Resume(ctx); err != nil {
		return causeOr(ctx, err)
	}
	return m.reconfigure(ctx)
}

// free ends the VM of a sandbox that now consists of its pause.
func (m *machine) free(ctx context.Context) error {
	m.shutGate()
	return m.body.free(ctx)
}
