package host

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// resume starts a VM from the machine's snapshot as generation gen. Until
// resume.cont nothing is changed and every failure leaves the machine paused.
func (m *machine) resume(life context.Context, gen sandbox.Generation) error {
	switch {
	case m.rec.State == sandbox.Running && gen == m.rec.Generation:
		return nil
	case m.rec.State != sandbox.Paused:
		return fault.New(fault.WrongState, "sandbox_not_paused", "the sandbox is %s, not paused", m.rec.State.Status())
	case gen <= m.rec.Generation:
		return errStale(sandbox.Ref{ID: m.rec.ID, Generation: gen}, m.rec.ref())
	}
	if err := m.mgr.admitResume(m.rec.Spec); err != nil {
		return err
	}
	ctx, done := m.interruptible(life)
	defer done()
	m.begin(opResume)
	m.publish(sandbox.Resuming)
	if err := m.prepareResume(ctx); err != nil {
		return m.backToPaused(life, err)
	}
	m.rec.Generation = gen
	if err := m.releaseVM(ctx); err != nil {
		if life.Err() != nil {
			return err
		}
		m.finish(life, sandbox.ReasonVMMCrash, err.Error())
		return fault.Wrap(err, fault.HostFailed, "resume_failed", "the sandbox did not come back from its snapshot")
	}
	m.publish(sandbox.Running)
	return nil
}

// prepareResume brings the VM up, stopped, with nothing of the snapshot changed.
func (m *machine) prepareResume(ctx context.Context) error {
	snap := m.dir.snapshot(m.rec.Snapshot)
	for _, s := range []step{
		{StepResumeCheck, func(context.Context) error { return m.checkSnapshot(snap) }},
		{StepResumeNetwork, m.makeNetwork},
		{StepResumeCgroup, m.makeCgroup},
		{StepResumeVMM, func(ctx context.Context) (err error) {
			cfg := m.vmConfig(snap.memory())
			if err := m.giveFiles(cfg.UID, m.dir.disk(), snap.memory(), m.dir.vm()); err != nil {
				return err
			}
			m.vm, err = m.mgr.driver.Restore(ctx, cfg, snap.state())
			return err
		}},
	} {
		if err := m.step(ctx, s.name, s.do); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return m.recordVM()
}

// releaseVM lets the virtual CPUs go and makes the guest usable. From
// resume.cont on the disk changes, so that there is no way back.
func (m *machine) releaseVM(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.mgr.cfg.BootTimeout)
	defer cancel()
	ctx, stop := m.untilExit(ctx)
	defer stop()
	if err := m.step(ctx, StepResumeCont, m.vm.Resume); err != nil {
		return err
	}
	err := m.step(ctx, StepResumeConfigure, func(ctx context.Context) error {
		if err := m.awaitGuest(ctx); err != nil {
			return err
		}
		if err := m.newToken(); err != nil {
			return err
		}
		return m.configure(ctx, false)
	})
	if err != nil {
		return err
	}
	return m.step(ctx, StepResumeCommit, func(context.Context) error { return m.goLive() })
}

// backToPaused undoes a resume that failed with cause before resume.cont.
func (m *machine) backToPaused(life context.Context, cause error) error {
	if life.Err() != nil {
		return cause
	}
	ctx, cancel := context.WithTimeout(life, teardownTimeout)
	defer cancel()
	if err := errors.Join(m.endVM(ctx), m.endNetwork(ctx), m.endCgroup(ctx)); err != nil {
		m.log.ErrorContext(ctx, "could not undo a failed resume", "error", err)
	}
	if err := m.settle(sandbox.Paused, false); err != nil {
		return errors.Join(cause, err)
	}
	m.publish(sandbox.Paused)
	if f := fault.As(cause); f.Kind != fault.Internal {
		return cause
	}
	return fault.Wrap(cause, fault.HostFailed, "resume_failed", "the sandbox could not be resumed; it is still paused")
}

// snapshotExists reports whether name is a snapshot directory of the machine.
func (m *machine) snapshotExists(name string) bool {
	if name == "" {
		return false
	}
	_, err := os.Stat(m.dir.snapshot(name).manifest())
	return err == nil
}
