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

// A teardown reads from the record which resources to free. The end of a sandbox,
// the roll-back of a half-made one and the clean-up after a crash are therefore the
// same code. Every part may be done twice.

// destroy ends the sandbox and removes everything that belongs to it.
func (m *machine) destroy(ctx context.Context, reason sandbox.StopReason) error {
	if m.rec.StopReason == "" {
		m.rec.StopReason = reason
	}
	if m.rec.State != sandbox.Stopped && !m.vmGone() {
		m.publish(sandbox.Stopping)
	}
	if err := m.end(ctx, func() {}); err != nil {
		if m.vmGone() {
			m.publish(sandbox.Stopped) // only resources without a VM are left
		}
		return err
	}
	if err := os.RemoveAll(string(m.Dir)); err != nil {
		return errTeardown(err)
	}
	m.mgr.forget(m)
	m.publish(sandbox.Stopped)
	return nil
}

// finish ends a sandbox without a request. Its record stays until Destroy, so that
// callers can learn the reason. If a part cannot be freed, the operation stays in
// the journal and is retried. Callers learn of the end as soon as the VM is gone,
// before the rest is freed.
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
	err := m.end(ctx, func() {
		if !told {
			m.publish(sandbox.Stopped)
		}
	})
	if err != nil {
		m.log.ErrorContext(ctx, "could not free a sandbox", "step", m.rec.Step, "error", err)
	}
}

// vmGone reports whether the body is known to have no VM process.
func (b *body) vmGone() bool { return b.Ended() && (b.VM != nil || b.rec.VM == nil) }

// end closes the gate and tears the body down.
func (m *machine) end(ctx context.Context, gone func()) error {
	if m.rec.State != sandbox.Stopped {
		m.closeGate(ctx, 0, errEnded(m.rec.StopReason))
	}
	return m.teardown(ctx, gone)
}

// teardown frees all but the record, dependents first: nothing is freed that a
// living VM uses. The control group ends before the network: it may hold processes
// that no record names, of a start that the end of an agent interrupted, and they use
// the network slot and its user id. It calls gone once the VM process has ended.
func (b *body) teardown(ctx context.Context, gone func()) error {
	if b.rec.State == sandbox.Stopped {
		return nil
	}
	b.begin(journal.OpDestroy)
	if err := os.MkdirAll(string(b.Dir), 0o700); err != nil {
		return errTeardown(err)
	}
	ctx, cancel := context.WithTimeout(ctx, teardownTimeout)
	defer cancel()
	for _, s := range []step{
		{journal.StepDestroyVM, func(ctx context.Context) error {
			err := b.endVM(ctx)
			if err == nil {
				gone()
			}
			return err
		}},
		{journal.StepDestroyCgroup, b.endCgroup},
		{journal.StepDestroyNetwork, b.endNetwork},
		{journal.StepDestroyFiles, func(context.Context) error {
			return errors.Join(journal.DropPause(string(b.Dir), false), b.RemoveFiles(journal.IsFile))
		}},
		{journal.StepDestroyCommit, func(context.Context) error {
			b.rec.EndedAt, b.rec.Token, b.rec.NextToken, b.rec.Pause, b.rec.Base = time.Now(), "", "", "", ""
			if err := b.commitState(sandbox.Stopped); err != nil {
				return err
			}
			b.dropBase()
			return nil
		}},
	} {
		if err := b.step(ctx, s.name, s.do); err != nil {
			return errTeardown(err)
		}
	}
	return nil
}

func errTeardown(err error) error {
	return fault.Wrap(err, fault.HostFailed, "teardown_failed", "the sandbox could not be freed; the host tries again")
}

// endVM kills the VM process and waits until it is reaped.
func (b *body) endVM(ctx context.Context) error {
	err := b.EndVM(ctx, b.rec.VM)
	if err == nil {
		b.rec.VM = nil
	}
	return err
}

func (b *body) endNetwork(ctx context.Context) error {
	b.EndNetwork(ctx, b.rec.Network)
	b.rec.Network = nil
	return nil
}

// endCgroup removes the control group. One that stays is removed later, or used
// again by a resume.
func (b *body) endCgroup(ctx context.Context) error {
	left, err := b.EndCgroup(ctx)
	if left != nil {
		b.log.WarnContext(ctx, "the control group of a VM cannot be removed; trying again in the background", "error", left)
		b.mgr.chores.add(b.mgr, "sweep", b.mgr.sweep)
	}
	return err
}

// free ends the VM and frees its control group and network slot, in the order of
// teardown. It stops at the first part that cannot be freed. The files stay.
func (b *body) free(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, teardownTimeout)
	defer cancel()
	for _, end := range []func(context.Context) error{b.endVM, b.endCgroup, b.endNetwork} {
		if err := end(ctx); err != nil {
			return err
		}
	}
	return nil
}

// teardownTimeout bounds the freeing of one body's resources.
const teardownTimeout = 30 * time.Second
