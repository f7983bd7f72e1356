package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/instance"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/linux/proc"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// recover reads the journals of an earlier agent, recovers each sandbox, and
// removes resources that no journal owns.
func (m *Manager) recover(ctx context.Context) error {
	if err := m.recoverMachines(ctx); err != nil {
		return err
	}
	m.sweepAtStart(ctx)
	return nil
}

// recoverMachines returns when every recorded sandbox is in a committed state.
func (m *Manager) recoverMachines(ctx context.Context) error {
	if err := m.endAbsent(ctx); err != nil {
		return fmt.Errorf("end VMs of a runtime that this host does not offer: %w", err)
	}
	machines, err := m.readMachines()
	if err != nil {
		return err
	}
	if err := m.needsDrivers(machines); err != nil {
		return err
	}
	networks := make(map[string]bool)
	for _, mc := range machines {
		if n := mc.rec.Network; n != nil {
			networks[n.Netns] = true
		}
	}
	// Before the first sandbox recovers: a clean-up that fails there is tried again
	// in the background, and must know the resources that others will adopt.
	m.findLeftovers(networks)
	var group errgroup.Group
	for _, mc := range machines {
		if mc.rec.Base != "" {
			// The sandbox itself notices that its base is gone.
			_ = mc.holdBase(mc.base())
		}
		if mc.rec.Pooled {
			group.Go(func() error {
				m.guarded("freeing a warm clone", func() { mc.discard(ctx) })
				return nil
			})
			continue
		}
		recovered := make(chan struct{})
		m.mu.Lock()
		m.startLocked(mc, func(life context.Context) {
			defer close(recovered)
			defer close(mc.booted)
			mc.recoverOne(life)
		})
		m.mu.Unlock()
		group.Go(func() error { <-recovered; return nil })
	}
	return group.Wait()
}

// readMachines returns a machine for each sandbox of the journal, with its VM
// process if that lives.
func (m *Manager) readMachines() ([]*machine, error) {
	entries, err := os.ReadDir(m.layout.machines())
	if err != nil {
		return nil, err
	}
	processes, err := m.drivers.Find(m.layout.root)
	if err != nil {
		return nil, fmt.Errorf("look for VM processes: %w", err)
	}
	live := make(map[string]vmm.Record) // by the VM's directory
	for _, p := range processes {
		p.Dir = m.layout.today(p.Dir)
		live[p.Dir] = p
	}
	var machines []*machine
	for _, e := range entries {
		p, lives := live[instance.Dir(filepath.Join(m.layout.machines(), e.Name())).VM()]
		mc, err := m.readMachine(e.Name(), lives)
		if err != nil {
			return nil, err
		}
		if mc == nil {
			continue
		}
		if lives && mc.rec.VM == nil {
			// Its start may not have ended: the agent died before it wrote it down.
			mc.rec.VM, mc.unrecorded = &p, true
		}
		machines = append(machines, mc)
	}
	return machines, nil
}

// readMachine returns the machine for one sandbox's directory, or nil for an empty
// directory. A record that cannot be read stops the agent, because the resources
// of its sandbox must not be swept away. lives says that its VM runs, so that no
// crash of the host can have taken the record.
func (m *Manager) readMachine(name string, lives bool) (*machine, error) {
	dir := filepath.Join(m.layout.machines(), name)
	if _, err := sandbox.ParseID(name); err != nil {
		return nil, fmt.Errorf("%s is not the directory of a sandbox; move it away", dir)
	}
	rec, err := journal.Read(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, os.RemoveAll(dir)
	}
	if fault.ReasonOf(err) == journal.ReasonDataNewer {
		return nil, err
	}
	if lives && err == nil && journal.Lost(dir) {
		err = journal.ErrLost
	}
	if errors.Is(err, journal.ErrLost) && !lives {
		return nil, m.setAside(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("the journal is damaged; move %s away to start without it: %w", dir, err)
	}
	rec.Relocate(m.layout.today)
	rec.RootImage = m.rootImage(rec.RootImage, rec.TemplateDigest)
	mc := newMachine(m, *rec)
	mc.Name, mc.Dir = name, instance.Dir(dir)
	mc.loadEnded(context.Background())
	return mc, nil
}

// setAside clears the directory of a sandbox whose record a crash of the host has
// taken. With the host its VM has ended, and without a record nothing of it can be
// used. Only the files of a pause are kept, for a person to look at: the record of
// a pause is lost where a version before 0.3 wrote it.
func (m *Manager) setAside(dir string) error {
	pauses, _ := filepath.Glob(filepath.Join(dir, "pause-*", "manifest.json")) // fails for bad patterns alone
	if len(pauses) == 0 {
		m.log.Error("a crash of the host took the record of a sandbox that was not paused; its files are removed", "dir", dir)
		return os.RemoveAll(dir)
	}
	to := filepath.Join(m.layout.damaged(), filepath.Base(dir))
	m.log.Error("a crash of the host took the record of a paused sandbox; its files are kept", "dir", dir, "kept", to)
	return errors.Join(os.MkdirAll(m.layout.damaged(), 0o700), os.RemoveAll(to), os.Rename(dir, to))
}

// recoverOne brings one sandbox back to a committed state.
func (m *machine) recoverOne(ctx context.Context) {
	op, step := m.rec.Op, m.rec.Step
	if op != "" {
		m.log.WarnContext(ctx, "operation was cut off by the end of the agent", "op", op, "step", step)
	}
	switch m.rec.Outcome() {
	case journal.StaysStopped:
		m.publish(sandbox.Stopped)
	case journal.EndsAsRecorded:
		m.finish(ctx, m.rec.StopReason, m.rec.StopDetail)
	case journal.EndsUnstarted:
		m.finish(ctx, sandbox.ReasonBootFailed, "the host agent ended while the sandbox was starting")
	case journal.StaysPaused:
		m.recoverPaused(ctx)
	default:
		m.recoverRunning(ctx)
	}
}

// recoverPaused frees the VM that a pause had not freed yet or a resume had begun.
func (m *machine) recoverPaused(ctx context.Context) {
	if !m.pauseExists(m.rec.Pause) {
		m.finish(ctx, sandbox.ReasonHostLost, "its snapshot is gone")
		return
	}
	if err := m.free(ctx); err != nil {
		m.log.ErrorContext(ctx, "could not free the VM of a paused sandbox", "error", err)
	}
	m.removeStalePauses(ctx)
	m.rec.Boot = false
	m.removeStaleBoots(ctx)
	m.conclude(ctx, sandbox.Paused)
	if !m.unsaved {
		m.dropNextDisk(ctx)
	}
	m.publish(sandbox.Paused)
}

// recoverRunning takes over a VM that ran, was being paused or was just resumed.
func (m *machine) recoverRunning(ctx context.Context) {
	resuming := m.rec.Op == journal.OpResume
	// The boot may have been the last action of the agent, before it took the records.
	booted := m.rec.Op == "" && m.base() == m.bootDir()
	err := m.adopt(ctx)
	if err == nil {
		m.rec.Pause = ""
		m.dropPause(ctx)
		m.removeStaleBoots(ctx)
		if booted {
			m.takeEnded(ctx)
		} else {
			m.dropNextEnded(ctx)
		}
		m.publish(sandbox.Running)
		return
	}
	m.log.WarnContext(ctx, "VM could not be taken over", "error", err)
	if resuming && m.pauseIsIntact() && m.pauseExists(m.rec.Pause) {
		m.recoverPaused(ctx)
		return
	}
	reason := sandbox.ReasonVMMCrash
	if m.VM == nil && m.rec.VM != nil && !sameBoot(m.rec.VM) || !m.Ended() {
		reason = sandbox.ReasonHostLost // the host has restarted, or lost the VM's network or cgroup
	}
	m.finish(ctx, reason, err.Error())
}

// adopt connects to all parts of the sandbox's instance and opens the gate. It
// reconfigures the guest, because that may be sealed for a pause, or not yet
// unsealed after a resume. A guest that does not answer is reconfigured when it
// does.
func (m *machine) adopt(ctx context.Context) error {
	if m.rec.VM == nil || m.unrecorded || m.rec.Network == nil {
		return errors.New("the journal names no VM")
	}
	ctx, cancel := context.WithTimeout(ctx, m.mgr.cfg.BootTimeout)
	defer cancel()
	if err := m.Adopt(ctx, *m.rec.VM, *m.rec.Network); err != nil {
		return err
	}
	if m.rec.Recovery() == journal.FinishEgress {
		if err := m.relimitEgress(); err != nil {
			return err // a VM whose limits are unknown must not run
		}
	}
	// VMs of agents without a jail own their directory.
	if err := keepFiles(m.Dir.VM()); err != nil {
		return err
	}
	m.SetGuest(m.NewGuest())
	if !m.pauseIsIntact() { // the VM is about to change the disk of the pause
		if err := journal.DropPause(string(m.Dir), true); err != nil {
			m.log.WarnContext(ctx, "the record of a pause that is over cannot be removed", "error", err)
		}
	}
	paused := m.rec.Op == journal.OpPause
	err := m.resumeAndReconfigure(ctx)
	if err == nil || paused {
		m.rec.Forced, m.rec.SilentSince = false, time.Time{}
	}
	if err != nil && m.EndsSoon() {
		return errors.Join(err, errors.New("the VM has ended: "+m.VM.Exit().Detail))
	}
	if m.rec.State != sandbox.Running {
		m.startLifetime() // the end of a resume that was cut off
	}
	if err != nil {
		m.commitSilentGuest(ctx, err)
		return nil
	}
	m.continueRunning(ctx)
	return nil
}

// removeStalePauses removes every pause directory that the record does not name.
func (b *body) removeStalePauses(ctx context.Context) {
	names, err := filepath.Glob(filepath.Join(string(b.Dir), "pause-*"))
	for _, name := range names {
		if filepath.Base(name) != b.rec.Pause {
			err = errors.Join(err, os.RemoveAll(name))
		}
	}
	if err != nil {
		b.log.WarnContext(ctx, "could not remove old pauses", "error", err)
	}
}

// removeAll removes all paths that match pattern.
func removeAll(pattern string) error {
	names, err := filepath.Glob(pattern)
	for _, name := range names {
		err = errors.Join(err, os.RemoveAll(name))
	}
	return err
}

func sameBoot(rec *vmm.Record) bool {
	id, err := proc.BootID()
	return err == nil && id == rec.BootID
}
