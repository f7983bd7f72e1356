package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// warmUp restores a clone of the template snapshot dir, renews it, and runs the
// operations that a sandbox begins with.
func (m *machine) warmUp(ctx context.Context, dir snapshotDir) error {
	if err := os.MkdirAll(string(m.dir), 0o700); err != nil {
		return err
	}
	m.begin(journal.OpPool)
	for _, s := range []step{
		{journal.StepPoolRecord, func(ctx context.Context) error {
			return errors.Join(m.makeDirs(ctx), m.holdBase(dir))
		}},
		{journal.StepPoolDisk, m.copyDisk},
		{journal.StepPoolNetwork, m.makeNetwork},
		{journal.StepPoolCgroup, func(ctx context.Context) error {
			if err := m.makeCgroup(ctx); err != nil {
				return err
			}
			return m.group.Background(true)
		}},
		{journal.StepPoolVMM, m.restoreBase},
		{journal.StepPoolGuest, func(ctx context.Context) error {
			if err := m.wakeGuest(ctx); err != nil {
				return err
			}
			return m.configure(ctx, renewal{identity: true, token: randomToken()})
		}},
		{journal.StepPoolWarm, m.exercise},
		{journal.StepPoolReady, func(context.Context) error { return m.group.Background(false) }},
	} {
		ctx, cancel := context.WithTimeout(ctx, m.mgr.cfg.BootTimeout)
		err := m.step(ctx, s.name, s.do)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// poolRounds is the number of times that a warm clone runs the first operations of
// sandboxes: under software emulation code is slow until it has been translated.
const poolRounds = 6

// poolCommands run in every warm clone. An image need not have them.
var poolCommands = [][]string{{"true"}, {"/bin/sh", "-c", "true"}}

// exercise runs commands, and the operations of a create, again and again.
func (m *machine) exercise(ctx context.Context) error {
	ctx, stop := m.untilExit(ctx)
	defer stop()
	for range poolRounds {
		for _, argv := range poolCommands {
			_ = m.runQuietly(ctx, argv)
		}
		if err := m.configure(ctx, renewal{token: randomToken(), idle: true}); err != nil {
			return err
		}
	}
	m.rec.RestoreReport.NewIdentity = true // see journal.StepPoolGuest, which would have failed
	return nil
}

// discard ends a machine that is no sandbox, and leaves nothing of it. Where
// that fails it is tried again in the background.
func (m *machine) discard(ctx context.Context) {
	if err := m.discardOnce(ctx); err != nil {
		m.log.ErrorContext(ctx, "could not free a warm clone; trying again in the background", "error", err)
		m.mgr.chores.add(m.mgr, "discard "+m.name, m.discardOnce)
	}
}

func (m *machine) discardOnce(ctx context.Context) error {
	m.rec.StopReason = sandbox.ReasonDestroyed
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), teardownTimeout)
	defer cancel()
	m.rec.State = sandbox.Pending
	if err := m.teardown(ctx, func() {}); err != nil {
		return err
	}
	return os.RemoveAll(string(m.dir))
}

// takeClone makes the sandbox of a warm clone, if one of its kind waits.
// taken is false when it still has to be made, err or not.
func (m *machine) takeClone(ctx context.Context) (taken bool, err error) {
	img, err := m.mgr.template(m.rec.Spec.Template)
	if err != nil {
		return false, err
	}
	key, _ := m.mgr.templateKey(m.rec.Spec, img)
	clone := m.mgr.pools.take(key, m.rec.Spec)
	if clone == nil {
		return false, nil
	}
	m.become(clone)
	if err := m.assign(ctx); err != nil {
		if ctx.Err() != nil {
			return true, err
		}
		m.log.WarnContext(ctx, "a warm clone failed when it was taken; restoring another", "error", err)
		return false, m.unbecome(ctx)
	}
	return true, nil
}

// become takes over everything that c consists of.
func (m *machine) become(c *machine) {
	m.name, m.dir, m.held = c.name, c.dir, c.held
	m.vm, m.slot, m.group = c.vm, c.slot, c.group
	c.mu.Lock()
	guest := c.guest
	c.mu.Unlock()
	m.setGuest(guest)
	rec := c.rec
	rec.ID, rec.Generation, rec.Spec, rec.CreatedAt = m.rec.ID, m.rec.Generation, m.rec.Spec, m.rec.CreatedAt
	rec.Pooled, rec.Source, rec.Op, rec.State = false, journal.SourcePool, journal.OpCreate, sandbox.Pending
	m.rec = rec
}

// assign tells the clone which sandbox it is.
func (m *machine) assign(ctx context.Context) error {
	ctx, stop := m.untilExit(ctx)
	defer stop()
	if err := m.step(ctx, journal.StepCreateAssign, func(context.Context) error { return nil }); err != nil {
		return err
	}
	err := m.step(ctx, journal.StepCreateConfigure, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, assignTimeout)
		defer cancel()
		// Its machine id and boot id were made new when it was warmed up, and
		// nobody has seen them.
		fresh := m.rec.RestoreReport.NewIdentity
		err := m.configure(ctx, renewal{token: randomToken(), idle: true})
		if err == nil {
			m.rec.RestoreReport.NewIdentity = fresh
		}
		return err
	})
	if err != nil {
		return err
	}
	return m.step(ctx, journal.StepCreateCommit, m.commitCreate)
}

// assignTimeout is how long a warm clone may take before another is restored.
const assignTimeout = 5 * time.Second

// unbecome frees a clone that failed and makes m a machine of which nothing
// exists yet.
func (m *machine) unbecome(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, teardownTimeout)
	defer cancel()
	if err := errors.Join(m.endVM(ctx), m.endNetwork(ctx), m.endCgroup(ctx)); err != nil {
		return err
	}
	m.dropBase()
	if err := os.RemoveAll(string(m.dir)); err != nil {
		return err
	}
	m.name, m.dir = string(m.rec.ID), m.mgr.layout.machine(string(m.rec.ID))
	m.rec.Token, m.rec.NextToken, m.rec.Base, m.rec.RestoreReport = "", "", "", nil
	return nil
}
