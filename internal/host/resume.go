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

// resume starts a VM from the sandbox's pause as generation gen. If the pause stays
// intact while the VM runs (see pauseIsIntact), every failure before resume.commit
// leaves the sandbox paused. Otherwise that holds until resume.cont.
//
// The virtual CPUs never run before resume.cont is in the journal. A driver whose
// restored VMs run at once therefore restores in that step, instead of resume.vmm.
//
// With reboot, or after a pause without memory, the VM boots from the disk of the pause
// instead (see prepareBoot), and every failure leaves the sandbox paused. A resume for use
// of the sandbox, with use, is refused after such a pause.
func (m *machine) resume(life context.Context, gen sandbox.Generation, reboot, use bool) error {
	switch {
	case m.rec.State == sandbox.Running && gen == m.rec.Generation:
		return nil
	case m.rec.State != sandbox.Paused:
		return fault.New(fault.WrongState, "sandbox_not_paused", "sandbox %s is %s, not paused", m.rec.ID, m.rec.State.Status())
	case gen <= m.rec.Generation:
		return errStale(sandbox.Ref{ID: m.rec.ID, Generation: gen}, m.rec.Ref())
	case use && m.rec.DiskOnly:
		return fault.New(fault.WrongState, reasonNoMemory,
			"sandbox %s was paused without its memory, so that use does not resume it: its processes would have ended; resume it first", m.rec.ID)
	}
	if err := m.mgr.admitResume(m.rec.Spec); err != nil {
		return err
	}
	if err := m.freeLeftover(life); err != nil {
		return err
	}
	defer m.mgr.starts()()
	ctx, done := m.interruptible(life)
	defer done()
	m.begin(journal.OpResume)
	m.ran, m.rec.Boot = false, reboot || m.rec.DiskOnly
	m.publish(sandbox.Resuming)
	m.mgr.makeRoom(ctx)
	return m.startResumeOf(life, ctx, gen, reboot)
}

// startResumeOf performs a resume that has begun, and brings the sandbox to a committed
// state. ctx is the context of the resume.
func (m *machine) startResumeOf(life, ctx context.Context, gen sandbox.Generation, reboot bool) error {
	if err := m.caught(ctx, func() error { return m.prepareResume(ctx) }); err != nil {
		if m.restoresInstead(ctx, reboot, err) {
			return m.restoreInstead(life, ctx, gen, err)
		}
		return m.abandonResume(life, err)
	}
	before := m.rec.Generation
	m.rec.Generation = gen
	release := m.releaseVM
	if m.rec.Boot {
		release = m.bootVM
	}
	if err := m.caught(ctx, func() error { return release(ctx) }); err != nil {
		if m.restoresInstead(ctx, reboot, err) {
			m.rec.Generation = before
			return m.restoreInstead(life, ctx, gen, err)
		}
		return m.resumeCut(life, ctx, before, err)
	}
	m.publish(sandbox.Running)
	return nil
}

// resumeCut brings a sandbox to a committed state whose resume from generation
// before failed with cause when its virtual CPUs may have run. ctx is the context
// of the resume.
func (m *machine) resumeCut(life, ctx context.Context, before sandbox.Generation, cause error) error {
	switch {
	case life.Err() != nil:
		return cause
	case m.canGoBack():
		m.rec.Generation = before
		return m.abandonResume(life, cause)
	case m.EndsSoon():
		m.onExit(life)
		return fault.Wrap(cause, fault.HostFailed, "resume_failed", "the sandbox's VM ended while it was being resumed")
	case ctx.Err() != nil:
		// It is being destroyed, maybe by a caller that only knows the generation
		// before this resume, which must not be refused as stale.
		m.rec.Generation = before
		return cause
	}
	// The VM still exists and has written to the disk: the sandbox runs, and its
	// guest is renewed once it answers.
	m.commitSilent(life, cause)
	m.publish(sandbox.Running)
	return nil
}

// freeLeftover frees the resources that the last pause could not free.
func (m *machine) freeLeftover(ctx context.Context) error {
	if !m.hasLeftover() {
		return nil
	}
	if err := m.free(ctx); err != nil {
		return errTeardown(err)
	}
	return nil
}

// hasLeftover reports whether a paused sandbox still holds parts of its VM.
func (b *body) hasLeftover() bool {
	return b.rec.State == sandbox.Paused &&
		(b.Exists() || b.rec.VM != nil || b.rec.Network != nil)
}

// canGoBack reports whether the pause is still as it was, after a resume that
// failed, or can be resumed by a boot as before.
func (b *body) canGoBack() bool {
	return b.rec.State == sandbox.Paused && (!b.ran || b.rec.Boot) || b.pauseIsIntact()
}

// hasNextDisk reports whether a resume uses a copy of the pause's disk.
func (b *body) hasNextDisk() bool {
	if b.rec.State != sandbox.Paused {
		return false
	}
	_, err := os.Stat(b.Dir.NextDisk())
	return err == nil
}

// prepareResume restores the VM, stopped, if the driver can, and changes nothing of
// the pause.
func (b *body) prepareResume(ctx context.Context) error {
	snap := b.pauseDir(b.rec.Pause)
	for _, s := range []step{
		{journal.StepResumeCheck, func(context.Context) error {
			if b.rec.Boot {
				return b.checkDiskPause(snap)
			}
			return b.checkPause(snap)
		}},
		{journal.StepResumeDisk, b.shareDisk},
		{journal.StepResumeNetwork, b.makeNetwork},
		{journal.StepResumeCgroup, b.CreateCgroup},
		{journal.StepResumeVMM, func(ctx context.Context) error {
			switch {
			case b.rec.Boot:
				return b.prepareBoot(ctx, snap)
			case b.shape().RestoresRunning:
				return nil // see restoreRunning
			}
			return b.restorePause(ctx, snap)
		}},
	} {
		if err := b.step(ctx, s.name, s.do); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// restorePause starts a VM from the pause, in the state that the driver restores
// VMs in.
func (b *body) restorePause(ctx context.Context, snap snapshot.Dir) error {
	from := b.base() // it was saved under the build of the pause
	if b.shape().DeltaIsWhole {
		from = snap
	}
	cfg, err := b.vmConfig(from)
	if err != nil {
		return err
	}
	if b.hasNextDisk() {
		cfg.Disk = b.Dir.NextDisk()
	}
	if err := keepFiles(cfg.Disk, b.Dir.VM()); err != nil {
		return err
	}
	if b.VM, err = b.Driver().Restore(ctx, cfg, vmm.Image{Base: b.rec.Base, Delta: string(snap)}); err != nil {
		return snapshot.HideDamage(err)
	}
	return b.recordVM()
}

// releaseVM starts the virtual CPUs and configures the guest.
func (m *machine) releaseVM(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.mgr.cfg.BootTimeout)
	defer cancel()
	running := m.shape().RestoresRunning
	if running {
		if err := m.step(ctx, journal.StepResumeCont, m.restoreRunning); err != nil {
			return err
		}
	}
	ctx, stop := m.UntilExit(ctx)
	defer stop()
	if !running {
		if err := m.step(ctx, journal.StepResumeCont, m.startResumed); err != nil {
			return err
		}
	}
	return m.configureResumed(ctx)
}

// configureResumed configures the guest of the VM that now runs, and commits.
func (m *machine) configureResumed(ctx context.Context) error {
	if m.rec.Forced {
		return m.releaseForced(ctx)
	}
	err := m.step(ctx, journal.StepResumeConfigure, func(ctx context.Context) error {
		return m.configure(ctx, renewal{token: randomToken()})
	})
	if err != nil {
		return err
	}
	return m.step(ctx, journal.StepResumeCommit, m.commitResume)
}

// startResumed starts the virtual CPUs of the restored VM.
func (m *machine) startResumed(ctx context.Context) error {
	if err := m.leavePause(); err != nil {
		return err
	}
	return m.startCPUs(ctx)
}

// restoreRunning is restorePause and startResumed with a driver whose restored VMs
// run at once.
func (m *machine) restoreRunning(ctx context.Context) error {
	if err := m.leavePause(); err != nil {
		return err
	}
	m.ran = true
	if err := m.restorePause(ctx, m.pauseDir(m.rec.Pause)); err != nil {
		return err
	}
	ctx, stop := m.UntilExit(ctx)
	defer stop()
	return m.startCPUs(ctx)
}

// leavePause removes the record of the pause before a VM writes to the disk of the
// pause.
func (m *machine) leavePause() error {
	if m.pauseIsIntact() {
		return nil
	}
	return journal.DropPause(string(m.Dir), true)
}

// releaseForced makes a guest usable that was paused without its help. It may
// not answer now either; then the sandbox runs and is renewed later.
func (m *machine) releaseForced(ctx context.Context) error {
	mf, err := snapshot.ReadManifest(m.pauseDir(m.rec.Pause))
	if err != nil {
		return err
	}
	// A resume that failed may have replaced the token; the saved guest has the old one.
	m.rec.Token, m.rec.NextToken = mf.Token, ""
	var silent error
	err = m.step(ctx, journal.StepResumeConfigure, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, m.mgr.cfg.GuestTimeout)
		defer cancel()
		if silent = m.Guest().Ping(ctx); silent == nil {
			silent = m.reconfigure(ctx)
		}
		return nil
	})
	if err != nil || silent != nil && m.EndsSoon() {
		return errors.Join(err, silent)
	}
	return m.step(ctx, journal.StepResumeCommit, func(ctx context.Context) error {
		if silent != nil {
			m.commitSilent(ctx, silent)
			return nil
		}
		m.rec.Forced, m.rec.SilentSince = false, time.Time{}
		return m.commitResume(ctx)
	})
}

// commitSilent is commitResume for a sandbox whose guest does not answer.
func (m *machine) commitSilent(ctx context.Context, cause error) {
	m.startLifetime()
	m.rec.Pause = ""
	m.rec.RestoreReport = &sandbox.RestoreReport{At: time.Now(), Generation: m.rec.Generation, VMGeneration: "none"}
	m.commitSilentGuest(ctx, cause)
	m.dropNextEnded(ctx)
	m.dropPause(ctx)
}

// commitResume records that the sandbox runs, and then deletes the pause.
func (m *machine) commitResume(ctx context.Context) error {
	m.startLifetime()
	m.rec.Pause = ""
	m.rec.LastActive = time.Now()
	m.conclude(ctx, sandbox.Running)
	m.openGate()
	m.dropNextEnded(ctx)
	m.dropPause(ctx)
	return nil
}

// dropPause removes the files of a pause that a running sandbox no longer needs.
func (b *body) dropPause(ctx context.Context) {
	if err := journal.DropPause(string(b.Dir), false); err != nil {
		b.log.WarnContext(ctx, "the record of a pause that is over cannot be removed", "error", err)
	}
	err := os.Rename(b.Dir.NextDisk(), b.Dir.Disk())
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err = errors.Join(err, removeAll(filepath.Join(string(b.Dir), "pause-*"))); err != nil {
		b.log.WarnContext(ctx, "could not remove the files of a pause", "error", err)
	}
}

// abandonResume undoes a resume that failed with cause while the pause was intact.
func (m *machine) abandonResume(life context.Context, cause error) error {
	if life.Err() != nil {
		return cause
	}
	m.undoResume(life)
	m.publish(sandbox.Paused)
	if f := fault.As(cause); f.Kind != fault.Internal {
		return cause
	}
	return fault.Wrap(cause, fault.HostFailed, "resume_failed", "the sandbox could not be resumed; it is still paused: try again, and see the host agent's log")
}

// undoResume frees the VM of a resume that failed, and commits that the sandbox is paused.
func (m *machine) undoResume(life context.Context) {
	ctx, cancel := context.WithTimeout(life, teardownTimeout)
	defer cancel()
	if err := m.free(ctx); err != nil {
		m.log.ErrorContext(ctx, "could not undo a failed resume", "error", err)
	}
	// The next disk goes after the journal has said that the resume is over:
	// with it an agent that reads the old journal goes back as well.
	m.rec.Boot = false
	m.conclude(ctx, sandbox.Paused)
	if !m.unsaved {
		m.dropNextDisk(ctx)
	}
	m.removeStaleBoots(ctx)
}

// pauseExists reports whether the sandbox has a pause directory called name.
func (b *body) pauseExists(name string) bool {
	if name == "" {
		return false
	}
	_, err := os.Stat(b.pauseDir(name).Manifest())
	return err == nil
}
