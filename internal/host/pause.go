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

// pauseReserve is the free space, in bytes, below which no pause is begun:
// enough for the journal of a pause that fails for lack of room and is undone.
const pauseReserve = 32 << 20

// pause writes the machine to a snapshot and frees its VM. Pausing a paused
// machine of the same generation succeeds, for a control plane that asks twice.
// On a full disk it fails with NoCapacity, and the machine goes on.
func (m *machine) pause(ctx context.Context) error {
	switch m.rec.State {
	case sandbox.Paused:
		return nil
	case sandbox.Running:
	default:
		return fault.New(fault.WrongState, reasonNotRunning, "the sandbox is %s, not running", m.rec.State.Status())
	}
	if err := disk.CheckReserve(m.mgr.cfg.Dir, pauseReserve); err != nil {
		return err
	}
	m.begin(opPause)
	m.publish(sandbox.Pausing)
	old := m.rec.Snapshot
	if err := m.writeSnapshot(ctx); err != nil {
		return m.unpause(ctx, err)
	}
	if err := m.step(ctx, StepPauseFree, func(ctx context.Context) error { return m.free(ctx, old) }); err != nil {
		// The snapshot is whole and the row may say so; what is left of the
		// VM is freed by the next operation or the next agent.
		m.log.ErrorContext(ctx, "could not free a paused VM", "error", err)
	}
	if err := m.settle(sandbox.Paused, false); err != nil {
		return err
	}
	m.publish(sandbox.Paused)
	return nil
}

// writeSnapshot returns once the snapshot is durable and the journal says that
// the machine consists of it.
func (m *machine) writeSnapshot(ctx context.Context) error {
	snap := m.dir.snapshot(fmt.Sprintf("snap-%d", m.rec.Generation))
	for _, s := range []step{
		{StepPauseGate, func(ctx context.Context) error {
			m.closeGate(ctx, m.mgr.cfg.PauseGrace, fault.New(fault.WrongState, reasonPaused,
				"the sandbox was paused; the command goes on when it is resumed, but its output from here on is lost to this call"))
			return m.prepareSnapshot(ctx, snap)
		}},
		{StepPauseQuiesce, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, m.mgr.cfg.BootTimeout)
			defer cancel()
			ctx, stop := m.untilExit(ctx)
			defer stop()
			_, err := m.guest.Quiesce(ctx)
			return err
		}},
		{StepPauseStop, func(ctx context.Context) error { return m.vm.Pause(ctx) }},
		{StepPauseState, func(ctx context.Context) error { return m.saveState(ctx, snap) }},
		{StepPauseMemory, func(ctx context.Context) (err error) {
			m.captured, err = m.saveMemory(ctx, snap)
			return err
		}},
		{StepPauseSync, func(context.Context) error { return m.sealSnapshot(snap, m.captured) }},
		{StepPauseCommit, func(context.Context) error {
			m.rec.Snapshot = filepath.Base(string(snap))
			m.rec.Step, m.rec.State = StepPauseFree, sandbox.Paused
			return m.save(true)
		}},
	} {
		if err := m.step(ctx, s.name, s.do); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// prepareSnapshot makes the directory and, before the guest stands still, the
// copy of the memory base on which its changes will be written.
func (m *machine) prepareSnapshot(ctx context.Context, snap snapshotDir) error {
	if err := os.RemoveAll(string(snap)); err != nil {
		return err
	}
	if err := os.Mkdir(string(snap), 0o711); err != nil {
		return err
	}
	_, err := disk.Clone(ctx, snap.memory(), m.vm.Record().MemoryFile)
	return err
}

func (m *machine) saveState(ctx context.Context, snap snapshotDir) error {
	// The VMM may write in its own directory only.
	tmp := filepath.Join(m.dir.vm(), "state")
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := m.vm.SaveState(ctx, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, snap.state())
}

func (m *machine) saveMemory(ctx context.Context, snap snapshotDir) (memory.Stats, error) {
	f, err := os.OpenFile(snap.memory(), os.O_RDWR, 0)
	if err != nil {
		return memory.Stats{}, err
	}
	rec := m.vm.Record()
	stats, err := memory.WriteDirty(ctx, rec.PID, rec.MemoryFile, f)
	return stats, errors.Join(err, f.Close())
}

// sealSnapshot makes the snapshot durable, disk included.
func (m *machine) sealSnapshot(snap snapshotDir, stats memory.Stats) error {
	if err := writeManifest(snap, m.manifest(stats)); err != nil {
		return err
	}
	for _, path := range []string{snap.memory(), snap.state(), m.dir.disk()} {
		if err := syncFile(path); err != nil {
			return err
		}
	}
	return errors.Join(syncDir(string(snap)), syncDir(string(m.dir)))
}

// unpause lets a machine go on whose pause failed with cause.
func (m *machine) unpause(ctx context.Context, cause error) error {
	if ctx.Err() != nil {
		return cause // the agent is closing; the next one goes on from here
	}
	if m.rec.State == sandbox.Paused {
		// The commit was written, or may have been: both files exist, and the
		// VM has not run since. What the journal says on disk is not known,
		// so say again what is true.
		m.rec.State = sandbox.Running
	}
	if err := m.carryOn(ctx); err != nil {
		m.log.ErrorContext(ctx, "the VM cannot go on after a failed pause", "pause_error", cause, "error", err)
		m.finish(ctx, sandbox.ReasonVMMCrash, err.Error())
		return fault.Wrap(errors.Join(cause, err), fault.HostFailed, "pause_failed", "the sandbox could not be paused and was lost")
	}
	m.publish(sandbox.Running)
	if f := fault.As(cause); f.Kind != fault.Internal {
		return cause
	}
	return fault.Wrap(cause, fault.HostFailed, "pause_failed", "the sandbox could not be paused; it still runs")
}

// carryOn brings a VM that was stopped or sealed for a pause back to work.
func (m *machine) carryOn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.mgr.cfg.BootTimeout)
	defer cancel()
	select {
	case <-m.vm.Exited():
		return errors.New("the VM has ended: " + m.vm.Exit().Detail)
	default:
	}
	if err := m.vm.Resume(ctx); err != nil {
		return err
	}
	ctx, stop := m.untilExit(ctx)
	defer stop()
	if err := m.configure(ctx, false); err != nil {
		return err
	}
	if err := os.RemoveAll(string(m.dir.snapshot(fmt.Sprintf("snap-%d", m.rec.Generation)))); err != nil {
		return err
	}
	return m.goLive()
}

// free ends the VM of a machine that now consists of its snapshot, and drops
// the memory base that the snapshot replaced.
func (m *machine) free(ctx context.Context, oldSnapshot string) error {
	ctx, cancel := context.WithTimeout(ctx, teardownTimeout)
	defer cancel()
	err := errors.Join(m.endVM(ctx), m.endNetwork(ctx), m.endCgroup(ctx), removeFile(m.dir.base()))
	if oldSnapshot != "" && oldSnapshot != m.rec.Snapshot {
		err = errors.Join(err, os.RemoveAll(string(m.dir.snapshot(oldSnapshot))))
	}
	return err
}

// teardownTimeout bounds the freeing of one machine's resources.
const teardownTimeout = 30 * time.Second
