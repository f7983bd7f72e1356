package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/host/instance"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/host/snapshot"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// warmUp restores a clone of the template snapshot dir, renews it, and runs the
// operations that a sandbox begins with. The template's processes renew themselves here
// and not when the clone is taken, which keeps its machine id.
func (b *body) warmUp(ctx context.Context, dir snapshot.Dir, start image.Start) error {
	if err := os.MkdirAll(string(b.Dir), 0o700); err != nil {
		return err
	}
	b.begin(journal.OpPool)
	for _, s := range []step{
		{journal.StepPoolRecord, func(ctx context.Context) error {
			return errors.Join(b.makeDirs(ctx), b.holdBase(dir))
		}},
		{journal.StepPoolDisk, b.copyDisk},
		{journal.StepPoolNetwork, b.makeNetwork},
		{journal.StepPoolCgroup, func(ctx context.Context) error {
			if err := b.CreateCgroup(ctx); err != nil {
				return err
			}
			return b.Group.Background(true)
		}},
		{journal.StepPoolVMM, b.restoreBase},
		{journal.StepPoolGuest, func(ctx context.Context) error {
			if err := b.startCPUs(ctx); err != nil {
				return err
			}
			if err := b.configure(ctx, renewal{identity: true, token: randomToken()}); err != nil {
				return err
			}
			ctx, stop := b.UntilExit(ctx)
			defer stop()
			b.awaitRenewed(ctx, start, renewedPoolLimit)
			return nil
		}},
		{journal.StepPoolWarm, b.exercise},
		{journal.StepPoolReady, func(context.Context) error { return b.Group.Background(false) }},
	} {
		ctx, cancel := context.WithTimeout(ctx, b.mgr.cfg.BootTimeout)
		err := b.step(ctx, s.name, s.do)
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
func (b *body) exercise(ctx context.Context) error {
	ctx, stop := b.UntilExit(ctx)
	defer stop()
	for range poolRounds {
		for _, argv := range poolCommands {
			_ = b.runQuietly(ctx, argv)
		}
		if err := b.configure(ctx, renewal{token: randomToken(), idle: true}); err != nil {
			return err
		}
	}
	b.rec.RestoreReport.NewIdentity = true // see journal.StepPoolGuest, which would have failed
	return nil
}

// discard ends a VM that belongs to no sandbox and removes all its resources. What
// fails is tried again in the background.
func (b *body) discard(ctx context.Context) {
	if err := b.discardOnce(ctx); err != nil {
		b.log.ErrorContext(ctx, "could not free a warm clone; trying again in the background", "error", err)
		b.mgr.chores.add(b.mgr, "discard "+b.Name, b.discardOnce)
	}
}

func (b *body) discardOnce(ctx context.Context) error {
	b.rec.StopReason = sandbox.ReasonDestroyed
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), teardownTimeout)
	defer cancel()
	b.rec.State = sandbox.Pending
	if err := b.teardown(ctx, func() {}); err != nil {
		return err
	}
	return os.RemoveAll(string(b.Dir))
}

// takeClone makes the sandbox of a warm clone, if one of its kind waits. taken is
// false if the sandbox still has to be created, with or without an error.
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
	m.moveIn(clone)
	if err := m.assign(ctx); err != nil {
		if ctx.Err() != nil {
			return true, err
		}
		m.log.WarnContext(ctx, "a warm clone failed when it was taken; restoring another", "error", err)
		return false, m.moveOut(ctx)
	}
	return true, nil
}

// moveIn moves the instance of the warm clone c, with its base, into the sandbox,
// which had none. The identity stays the sandbox's own.
func (m *machine) moveIn(c *body) {
	m.setInstance(c.Instance)
	m.heldBase = c.heldBase
	m.rec.Instance, m.rec.Source = c.rec.Instance, journal.SourcePool
}

// setInstance replaces the instance, which other goroutines read under mu.
func (m *machine) setInstance(i *instance.Instance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Instance = i
}

// assign tells the clone which sandbox it is.
func (m *machine) assign(ctx context.Context) error {
	ctx, stop := m.UntilExit(ctx)
	defer stop()
	if err := m.step(ctx, journal.StepCreateAssign, func(context.Context) error { return m.limitEgress() }); err != nil {
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

// moveOut frees an instance that failed and leaves the sandbox with one of its
// own, of which nothing exists yet.
func (m *machine) moveOut(ctx context.Context) error {
	if err := m.free(ctx); err != nil {
		return err
	}
	m.dropBase()
	if err := os.RemoveAll(string(m.Dir)); err != nil {
		return err
	}
	id := string(m.rec.ID)
	m.setInstance(m.mgr.newInstance(id, m.mgr.layout.machine(id), m.rec.Spec))
	m.rec.Instance = journal.Instance{}
	return nil
}
