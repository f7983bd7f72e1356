package host

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// The teardown of a machine reads from its record which resources to free. The
// end of a sandbox, the roll-back of a half-made one and the clean-up after a
// crash are therefore the same code. Every part may be done twice.

// destroy ends the machine and leaves nothing of it.
func (m *machine) destroy(ctx context.Context, reason sandbox.StopReason) error {
	if m.rec.StopReason == "" {
		m.rec.StopReason = reason
	}
	if m.rec.State != sandbox.Stopped && !m.vmGone() {
		m.publish(sandbox.Stopping)
	}
	if err := m.teardown(ctx, func() {}); err != nil {
		if m.vmGone() {
			m.publish(sandbox.Stopped) // what is left is no sandbox any more
		}
		return err
	}
	if err := os.RemoveAll(string(m.dir)); err != nil {
		return errTeardown(err)
	}
	m.mgr.forget(m)
	m.publish(sandbox.Stopped)
	return nil
}

// finish ends a machine that nobody asked to end. Its record stays, so that
// the reason can still be learned, until Destroy. Where something cannot be
// freed the operation stays in the journal, to be tried again. Callers are told
// of the end as soon as the VM is gone, before the rest is freed.
func (m *machine) finish(ctx context.Context, reason sandbox.StopReason, detail string) {
	const keep = 4096
	m.begin(journal.OpDestroy)
	m.rec.StopReason, m.rec.StopDetail = reason, detail[max(0, len(detail)-keep):]
	told := m.vmGone()
	if told {
		m.publish(sandbox.Stopped)
	} else {
		m.publish(sandbox.Stopping)
	}
	err := m.teardown(ctx, func() {
		if !told {
			m.publish(sandbox.Stopped)
		}
	})
	if err != nil {
		m.log.ErrorContext(ctx, "could not free a sandbox", "step", m.rec.Step, "error", err)
	}
}

// vmGone reports whether the machine is known to have no VM process.
func (m *machine) vmGone() bool { return m.vmEnded() && (m.vm != nil || m.rec.VM == nil) }

// teardown frees all but the record, dependents first: nothing is freed that a
// living VM uses. It calls gone once the VM process has ended.
func (m *machine) teardown(ctx context.Context, gone func()) error {
	if m.rec.State == sandbox.Stopped {
		return nil
	}
	m.begin(journal.OpDestroy)
	if err := os.MkdirAll(string(m.dir), 0o700); err != nil {
		return errTeardown(err)
	}
	ctx, cancel := context.WithTimeout(ctx, teardownTimeout)
	defer cancel()
	m.closeGate(ctx, 0, errEnded(m.rec.StopReason))
	for _, s := range []step{
		{journal.StepDestroyVM, func(ctx context.Context) error {
			err := m.endVM(ctx)
			if err == nil {
				gone()
			}
			return err
		}},
		{journal.StepDestroyNetwork, m.endNetwork},
		{journal.StepDestroyCgroup, m.endCgroup},
		{journal.StepDestroyFiles, func(context.Context) error { return m.removeFiles() }},
		{journal.StepDestroyCommit, func(context.Context) error {
			m.rec.EndedAt, m.rec.Token, m.rec.NextToken, m.rec.Pause, m.rec.Base = time.Now(), "", "", "", ""
			if err := m.settle(sandbox.Stopped, false); err != nil {
				return err
			}
			m.dropBase()
			return nil
		}},
	} {
		if err := m.step(ctx, s.name, s.do); err != nil {
			return errTeardown(err)
		}
	}
	return nil
}

func errTeardown(err error) error {
	return fault.Wrap(err, fault.HostFailed, "teardown_failed", "the sandbox could not be freed; the host tries again")
}

// endVM kills the VM process and waits until it is reaped.
func (m *machine) endVM(ctx context.Context) error {
	m.dropGuest()
	if m.vm != nil {
		if err := m.vm.Kill(ctx); err != nil {
			return err
		}
	} else if m.rec.VM != nil {
		if err := m.mgr.driver.KillRecord(ctx, *m.rec.VM); err != nil {
			return err
		}
	}
	m.vm, m.rec.VM = nil, nil
	return nil
}

func (m *machine) endNetwork(ctx context.Context) error {
	switch {
	case m.slot != nil:
		m.slot.Release(ctx)
	case m.rec.Network != nil:
		m.mgr.deps.Network.Discard(ctx, m.name, *m.rec.Network)
	}
	m.slot, m.rec.Network = nil, nil
	return nil
}

func (m *machine) endCgroup(ctx context.Context) error {
	if m.group == nil {
		group, err := m.mgr.deps.Cgroups.Adopt(m.name)
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		m.group = group
	}
	if err := m.group.Kill(ctx); err != nil {
		return err
	}
	m.removeCgroup(ctx)
	return nil
}

// removeFiles removes everything but the record.
func (m *machine) removeFiles() error {
	entries, err := os.ReadDir(string(m.dir))
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if !journal.IsFile(e.Name()) {
			errs = append(errs, os.RemoveAll(string(m.dir)+"/"+e.Name()))
		}
	}
	return errors.Join(errs...)
}
