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
	"github.com/wrenn-dev/wrenn/internal/linux/durable"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// A sandbox can be resumed without the memory of its pause: a new VM boots from the disk
// of the pause. A pause without memory can be resumed in no other way.
//
// Such a resume can always be begun again, because each boot leaves a disk from which the
// next one can boot. If it is interrupted before its commit, the sandbox is paused again
// (journal.Record.Boot). Its commit gives the sandbox a new base: a blank memory, from
// which the memory of later pauses differs.

// prepareBoot is the part of prepareResume in which a resume that restores starts its VM.
// It makes the disk complete: some of a full pause's disk may only be in the memory of
// its guest.
func (b *body) prepareBoot(ctx context.Context, snap snapshot.Dir) error {
	full := !b.rec.DiskOnly
	if full {
		b.dropNextEnded(ctx)
	}
	if b.hasDiskFile() && (!full || b.rec.Forced) {
		return nil
	}
	err := b.withinBootTimeout(ctx, func(ctx context.Context) error { return b.writeBack(ctx, snap) })
	if err != nil && (!b.hasDiskFile() || !lostForGood(err)) {
		return err
	}
	if err != nil {
		b.log.WarnContext(ctx, "booting from the disk as the pause left it, because the saved guest cannot write it back", "error", err)
	}
	return b.endVM(ctx)
}

// lostForGood reports whether err says that the memory of a pause cannot be used, now or
// later. A guest that does not answer in time may answer the next time.
func lostForGood(err error) bool {
	switch fault.ReasonOf(err) {
	case "snapshot_damaged", "vmm_build_missing", "snapshot_incompatible":
		return true
	}
	return false
}

// writeBack restores the pause to get at the content of its disk. The caller ends the VM.
func (b *body) writeBack(ctx context.Context, snap snapshot.Dir) error {
	if err := b.checkPause(snap); err != nil {
		return err
	}
	if err := b.restorePause(ctx, snap); err != nil {
		return err
	}
	ctx, stop := b.UntilExit(ctx)
	defer stop()
	if b.rec.DiskOnly || b.rec.Forced { // the guest wrote its file systems back, or cannot
		return b.saveDisk(ctx)
	}
	if err := b.leaveForBoot(); err != nil {
		return err
	}
	if err := b.startCPUs(ctx); err != nil {
		return causeOr(ctx, err)
	}
	err := b.askToWriteBack(ctx)
	if b.hasDiskFile() {
		if err == nil {
			err = b.VM.Pause(ctx)
		}
		return causeOr(ctx, err)
	}
	if err != nil && ctx.Err() == nil && !b.Ended() {
		b.log.WarnContext(ctx, "saving the disk of a guest that could not be frozen", "error", err)
		err = nil // the VMM has all of the disk's content
	}
	if err == nil {
		return b.saveDisk(ctx)
	}
	return causeOr(ctx, err)
}

// askToWriteBack has the guest of a restored VM write its file systems back and freeze.
func (b *body) askToWriteBack(ctx context.Context) error {
	ask, cancel := context.WithTimeout(ctx, b.mgr.cfg.GuestTimeout)
	defer cancel()
	if err := b.Guest().Ping(ask); err != nil {
		return fault.Wrap(err, fault.Unavailable, reasonUnresponsive,
			"the guest of sandbox %s, which has to write its files to the disk before the boot, does not answer; the sandbox is still paused: try again", b.rec.ID)
	}
	if err := b.configure(ctx, renewal{token: randomToken()}); err != nil {
		return err
	}
	return b.sealToDisk(ctx)
}

// saveDisk saves the content of a disk of the driver for the boot.
func (b *body) saveDisk(ctx context.Context) error {
	saver, ok := b.VM.(vmm.DiskSaver)
	if !ok {
		return errors.New("the VM cannot save its disk")
	}
	if err := errors.Join(b.VM.Pause(ctx), removeFile(b.Dir.DiskContent())); err != nil {
		return causeOr(ctx, err)
	}
	err := saver.SaveDisk(ctx, b.Dir.DiskContent())
	if errors.Is(err, vmm.ErrDiskTooLarge) { // the VM may have ended for this reason
		return unbootableIf(fault.Wrap(err, fault.WrongState, reasonDiskTooLarge,
			"the files of sandbox %s, holes included, have more than the %d MB that it can boot from under the runtime %s; resume it with its memory",
			b.rec.ID, saver.BootableBytes()>>20, b.rec.Spec.Runtime))
	}
	return unbootableIf(causeOr(ctx, err))
}

// checkBootable refuses a disk of the driver with more content, in bytes, than a VM can
// boot from.
func (b *body) checkBootable(content int64) error {
	saver, ok := b.VM.(vmm.DiskSaver)
	if !ok || content <= saver.BootableBytes() {
		return nil
	}
	return fault.New(fault.WrongState, reasonDiskTooLarge,
		"sandbox %s holds %d MB, and under the runtime %s it can boot from %d MB; leave the memory in, or delete files",
		b.rec.ID, content>>20, b.rec.Spec.Runtime, saver.BootableBytes()>>20)
}

// Reasons of faults about pauses without memory.
const (
	reasonDiskTooLarge = "disk_too_large"
	reasonNoMemory     = "paused_without_memory"
	reasonWithMemory   = "paused_with_memory"
)

// unbootable is an error of a boot that may come from the content of the disk, so that it
// would come again.
type unbootable struct{ error }

// Unwrap returns the error itself.
func (e unbootable) Unwrap() error { return e.error }

func unbootableIf(err error) error {
	if err == nil {
		return nil
	}
	return unbootable{err}
}

// restoresInstead reports whether a resume that was not told to boot restores the pause
// because its boot failed with cause. A driver that keeps the disk in the saved VM has the
// memory of each pause, and the guest may have left a disk from which no VM can boot.
func (m *machine) restoresInstead(ctx context.Context, reboot bool, cause error) bool {
	var content unbootable
	return !reboot && m.rec.Boot && m.rec.DiskOnly && !m.hasDiskFile() && ctx.Err() == nil && errors.As(cause, &content)
}

// restoreInstead resumes the sandbox as generation gen from the memory of its pause, after
// a boot that failed with cause.
func (m *machine) restoreInstead(life, ctx context.Context, gen sandbox.Generation, cause error) error {
	m.log.WarnContext(ctx, "resuming a sandbox with the memory of its pause, because it cannot boot from its disk", "error", cause)
	m.undoResume(life)
	if err := m.freeLeftover(ctx); err != nil {
		return m.abandonResume(life, errors.Join(err, cause))
	}
	m.begin(journal.OpResume)
	m.ran, m.rec.Boot = false, false
	return m.startResumeOf(life, ctx, gen, false)
}

// diskTimePerGiB is the additional time, for each GiB of the disk, in which a guest may
// write its file systems back, or check them when it boots from them. maxDiskTime bounds
// it, so that a resume that writes back and boots ends within the time limit of the control
// plane, 3 minutes.
const (
	diskTimePerGiB = 2 * time.Second
	maxDiskTime    = 25 * time.Second
)

// diskTimeout returns the time limit of a boot from the disk, and of the write-back before.
func (b *body) diskTimeout() time.Duration {
	return b.mgr.cfg.BootTimeout + min(time.Duration(b.rec.Spec.DiskMB)*diskTimePerGiB/1024, maxDiskTime)
}

// sealToDisk is sealIf, after which the disk is complete without the guest's memory. It
// stores the records of the processes that the boot ends: as they are when they are frozen,
// or before that from a guest of an earlier version.
func (b *body) sealToDisk(ctx context.Context) error {
	processes := b.listProcesses(ctx)
	err := b.freezeWith(ctx, b.diskTimeout(), func(ctx context.Context) error {
		answer, err := b.Guest().QuiesceToDisk(ctx)
		if answer.GetListed() {
			processes = answer.GetProcesses()
		}
		return err
	})
	return errors.Join(b.noteProcesses(ctx, processes), err)
}

// leaveForBoot records, before a VM writes to the disk of the pause, that the memory of
// the pause is of no use any more. A pause that stays intact stays as it is.
func (b *body) leaveForBoot() error {
	if b.pauseIsIntact() || b.rec.DiskOnly {
		return nil
	}
	b.rec.DiskOnly = true
	return b.savePause()
}

// bootVM is releaseVM for a VM that boots from the disk of the pause.
func (m *machine) bootVM(ctx context.Context) error {
	err := m.inTurn(ctx, func(ctx context.Context) error { return m.startGuest(ctx, m.rebootOnce) })
	if err != nil {
		return err
	}
	// Others can be started meanwhile.
	if err := m.startAgain(ctx); err != nil {
		return m.skipStart(ctx, err)
	}
	return m.step(ctx, journal.StepResumeCommit, m.commitBoot)
}

// rebootOnce boots a VM from the disk and configures its guest.
func (m *machine) rebootOnce(ctx context.Context) error {
	err := m.step(ctx, journal.StepResumeCont, func(ctx context.Context) error {
		if err := errors.Join(m.leaveForBoot(), m.bootDir().Recreate()); err != nil {
			return err
		}
		m.ran = true
		return m.startCold(ctx, string(m.bootDir()))
	})
	if err != nil {
		return err
	}
	ctx, stop := m.UntilExit(ctx)
	defer stop()
	return m.step(ctx, journal.StepResumeConfigure, func(ctx context.Context) error {
		if err := m.awaitGuest(ctx); err != nil {
			return unbootableIf(err)
		}
		return m.configure(ctx, renewal{identity: true, users: true, token: randomToken()})
	})
}

// startCold starts a VM that boots from its disk, with the files that it needs in scratch.
func (b *body) startCold(ctx context.Context, scratch string) error {
	cfg, err := b.vmConfig("")
	if err != nil {
		return err
	}
	cfg.Scratch = scratch
	if b.rec.Boot {
		if b.hasNextDisk() {
			cfg.Disk = b.Dir.NextDisk()
		}
		if !b.hasDiskFile() {
			cfg.DiskContent = b.Dir.DiskContent()
		}
		if err := keepFiles(cfg.Disk, b.Dir.VM()); err != nil {
			return err
		}
	}
	if b.VM, err = b.Driver().Start(ctx, cfg); err != nil {
		return unbootableIf(err)
	}
	return b.recordVM()
}

// bootDir is the base of the VM that boots as the present generation.
func (b *body) bootDir() snapshot.Dir {
	return snapshot.Dir(b.Dir.Boot(fmt.Sprintf("%s%d", journal.BootPrefix, b.rec.Generation)))
}

// commitBoot records that the booted sandbox runs, and then deletes the pause. If the
// record cannot be written, the sandbox is paused as before, because the next agent would
// read that it is.
func (m *machine) commitBoot(ctx context.Context) error {
	if err := m.sealBoot(ctx); err != nil {
		return err
	}
	before, old := m.rec, m.heldBase
	m.heldBase = ""
	err := m.holdBase(m.bootDir())
	if err == nil {
		m.startLifetime()
		m.rec.Pause, m.rec.DiskOnly, m.rec.Boot, m.rec.Forced, m.rec.SilentSince = "", false, false, false, time.Time{}
		m.rec.LastActive = time.Now()
		err = m.commitState(sandbox.Running)
	}
	if err != nil {
		m.dropBase()
		m.rec, m.heldBase = before, old
		return err
	}
	m.mu.Lock()
	m.health.renewDue, m.health.since = false, time.Time{}
	m.mu.Unlock()
	m.takeEnded(ctx)
	m.openGate()
	m.dropPause(ctx)
	m.dropHold(old)
	m.removeStaleBoots(ctx)
	return nil
}

// sealBoot makes the directory of the boot the base of the VM's deltas.
func (b *body) sealBoot(ctx context.Context) error {
	mf := b.manifest(vmm.SaveStats{})
	mf.Fingerprint = snapshot.Fingerprint(b.Driver(), b.rec.Spec, "")
	mf.Boot, mf.DiskBytes = true, 0
	if err := b.mgr.snapshots.Seal(ctx, b.bootDir(), mf, true); err != nil {
		return err
	}
	return errors.Join(durable.Sync(string(b.bootDir())), durable.Sync(string(b.Dir)))
}

// removeStaleBoots removes the files of boots that have not become the base, or are not
// any more.
func (b *body) removeStaleBoots(ctx context.Context) {
	names, err := filepath.Glob(filepath.Join(string(b.Dir), journal.BootPrefix+"*"))
	for _, name := range names {
		if name != b.rec.Base {
			err = errors.Join(err, os.RemoveAll(name))
		}
	}
	if err = errors.Join(err, removeFile(b.Dir.DiskContent())); err != nil {
		b.log.WarnContext(ctx, "could not remove the files of a boot", "error", err)
	}
}

// checkDiskPause is checkPause for a resume that boots.
func (b *body) checkDiskPause(snap snapshot.Dir) error {
	if !b.hasDiskFile() {
		return b.checkPause(snap)
	}
	mf, err := snapshot.ReadManifest(snap)
	if err != nil {
		return err
	}
	if err := b.checkDisk(mf); err != nil {
		return err
	}
	return b.checkRootImage()
}
