package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
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
	if m.diskFull {
		return errDiskFull()
	}
	// A pause that could not be resumed would lose a sandbox that runs.
	if _, err := m.mgr.buildOf(m.base()); err != nil {
		return err
	}
	m.begin(opPause)
	m.publish(sandbox.Pausing)
	if err := m.writePause(ctx); err != nil {
		return m.unpause(ctx, err)
	}
	if err := m.step(ctx, StepPauseFree, func(ctx context.Context) error { return m.free(ctx) }); err != nil {
		// The snapshot is whole and the row may say so; what is left of the
		// VM is freed by the next operation or the next agent.
		m.log.ErrorContext(ctx, "could not free a paused VM", "error", err)
	}
	m.conclude(ctx, sandbox.Paused)
	m.publish(sandbox.Paused)
	return nil
}

// pauseName is the directory of the pause of generation gen.
func pauseName(gen sandbox.Generation) string { return fmt.Sprintf("pause-%d", gen) }

// writePause returns once all that a paused machine consists of is durable and
// the journal says so. Its cost follows from what the machine has changed of
// its base's memory, not from the machine's size.
func (m *machine) writePause(ctx context.Context) error {
	name := pauseName(m.rec.Generation)
	snap := m.dir.pause(name)
	for _, s := range []step{
		{StepPauseGate, func(ctx context.Context) error {
			m.closeGate(ctx, m.mgr.cfg.PauseGrace, fault.New(fault.WrongState, reasonPaused,
				"the sandbox was paused; the command goes on when it is resumed, but its output from here on is lost to this call"))
			return errors.Join(os.RemoveAll(string(snap)), os.Mkdir(string(snap), 0o700))
		}},
		{StepPauseQuiesce, m.sealGuest},
		{StepPauseStop, func(ctx context.Context) error { return m.vm.Pause(ctx) }},
		{StepPauseState, func(ctx context.Context) error { return m.saveState(ctx, snap) }},
		{StepPauseMemory, func(ctx context.Context) error { return m.saveDiff(ctx, snap) }},
		{StepPauseSync, func(ctx context.Context) error { return m.syncPause(ctx, snap) }},
		{StepPauseCommit, func(context.Context) error {
			m.rec.Snapshot = name
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

// syncPause makes the pause durable, disk included.
func (m *machine) syncPause(ctx context.Context, snap snapshotDir) error {
	if err := writeManifest(snap, m.manifest(m.captured), false); err != nil {
		return err
	}
	if err := syncFiles(ctx, snap.diff(), snap.state(), snap.manifest(), m.dir.disk()); err != nil {
		return err
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
	if err := m.reconfigure(ctx); err != nil {
		return err
	}
	m.rec.Snapshot = ""
	if err := os.RemoveAll(string(m.dir.pause(pauseName(m.rec.Generation)))); err != nil {
		return err
	}
	m.rec.LastActive = time.Now()
	m.conclude(ctx, sandbox.Running)
	m.openGate(m.guest)
	return nil
}

// free ends the VM of a machine that now consists of its pause.
func (m *machine) free(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, teardownTimeout)
	defer cancel()
	return errors.Join(m.endVM(ctx), m.endNetwork(ctx), m.endCgroup(ctx))
}

// teardownTimeout bounds the freeing of one machine's resources.
const teardownTimeout = 30 * time.Second
