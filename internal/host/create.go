package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/host/snapshot"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// create is the first operation of a new sandbox.
func (m *machine) create(life context.Context) {
	defer close(m.booted)
	defer m.mgr.starts()()
	ctx, done := m.interruptible(life)
	defer done()
	m.begin(journal.OpCreate)
	m.rec.CreatedAt = time.Now()
	err := fault.Caught(func() error { return m.start(ctx) })
	if err == nil {
		m.publish(sandbox.Running)
		return
	}
	if life.Err() != nil {
		m.bootErr = err
		return // the next agent rolls back
	}
	m.log.ErrorContext(ctx, "create failed", "step", m.rec.Step, "error", err)
	m.bootErr = createFault(err)
	m.finish(life, sandbox.ReasonBootFailed, err.Error())
}

// createFault keeps errors that a user can act upon and hides the others.
func createFault(err error) error {
	switch f := fault.As(err); f.Kind {
	case fault.Internal:
		return fault.Wrap(err, fault.HostFailed, "boot_failed", "the sandbox could not be started")
	default:
		return f
	}
}

// start creates all resources of a sandbox and returns when commands can run. On
// error, finish frees the resources that exist.
func (m *machine) start(ctx context.Context) error {
	if m.rec.SnapshotID != "" {
		m.rec.Source = journal.SourceFork
		m.mgr.makeRoom(ctx)
		return m.createFrom(ctx, m.fromSnapshot)
	}
	if taken, err := m.takeClone(ctx); taken || err != nil {
		return err
	}
	m.rec.Source = journal.SourceRestore
	m.mgr.makeRoom(ctx)
	return m.createFrom(ctx, m.fromTemplate)
}

// restoreSource is the base that a sandbox is restored from, with facts from its
// manifest.
type restoreSource struct {
	dir    snapshot.Dir
	digest string // of the template image
	image  string // path of the read-only root
	// start holds the check of the template's processes; zero for a copy of a sandbox.
	start image.Start
	// again is the start command that a boot of the copy runs again; nil is none, or that
	// of the template image.
	again *sandbox.StartCommand
	// token is the access token of a guest that was not sealed.
	token string
	// forced: the snapshot was taken without the guest's help.
	forced bool
	// diskOnly: the snapshot has no memory, so that the sandbox boots from its disk.
	diskOnly bool
}

// fromTemplate returns the template snapshot for the body's spec. If there is none, one is
// built. The error is Unavailable template_preparing if that takes longer than a create may
// wait.
func (b *body) fromTemplate(ctx context.Context) (restoreSource, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, b.mgr.cfg.TemplateWait, fault.New(fault.Unavailable, "template_preparing",
		"the host is preparing the template %s for sandboxes of this size, which takes longer than a create may; try again in a minute",
		b.rec.Spec.Template))
	defer cancel()
	t, err := b.mgr.ensureTemplate(ctx, b.rec.Spec, b.stage)
	return restoreSource{dir: t.dir, digest: t.image.Digest, image: t.image.Path, start: t.image.Start}, err
}

// fromSnapshot is the snapshot that the sandbox is to be a copy of.
func (b *body) fromSnapshot(context.Context) (restoreSource, error) {
	dir := b.mgr.layout.snapshot(b.rec.SnapshotID)
	mf, err := b.mgr.snapshots.CheckBase(dir, b.rec.Spec)
	return restoreSource{
		dir: dir, digest: mf.TemplateDigest, image: b.mgr.rootImage(mf.RootImage, mf.TemplateDigest), again: mf.Start, token: mf.Token, forced: mf.Forced,
		diskOnly: mf.DiskOnly,
	}, err
}

// createFrom creates the sandbox, step by step, from the base that find returns.
func (m *machine) createFrom(ctx context.Context, find func(context.Context) (restoreSource, error)) error {
	if err := os.MkdirAll(string(m.Dir), 0o700); err != nil {
		return err
	}
	var from restoreSource
	for _, s := range []step{
		{journal.StepCreateRecord, m.makeDirs},
		{journal.StepCreateTemplate, func(ctx context.Context) (err error) {
			if from, err = find(ctx); err != nil {
				return err
			}
			m.rec.TemplateDigest, m.rec.RootImage, m.baseToken = from.digest, from.image, from.token
			m.fromForced, m.templateStart, m.rec.Start = from.forced, from.start, from.again
			m.rec.Boot = from.diskOnly
			return m.holdBase(from.dir)
		}},
	} {
		if err := m.step(ctx, s.name, s.do); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	// From here on a few sandboxes start at a time, so that of many that are
	// requested at once the first are ready early.
	if m.rec.Boot {
		return m.createByBoot(ctx)
	}
	return m.inTurn(ctx, func(ctx context.Context) error {
		if err := m.build(ctx, m.cloneOnce); err != nil {
			return err
		}
		return m.step(ctx, journal.StepCreateCommit, m.commitCreate)
	})
}

// build creates the sandbox's own disk, network and cgroup, then starts its VM with once
// (see startGuest).
func (m *machine) build(ctx context.Context, once func(context.Context) error) error {
	for _, s := range []step{
		{journal.StepCreateDisk, m.copyDisk},
		{journal.StepCreateNetwork, m.makeNetwork},
		{journal.StepCreateCgroup, m.CreateCgroup},
	} {
		if err := m.step(ctx, s.name, s.do); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return m.startGuest(ctx, once)
}

// inTurn waits until fewer than BootConcurrency VMs are being started, and calls do.
func (b *body) inTurn(ctx context.Context, do func(context.Context) error) error {
	if err := b.mgr.boots.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer b.mgr.boots.Release(1)
	return do(ctx)
}

func (m *machine) commitCreate(context.Context) error {
	m.rec.StartedAt = time.Now()
	m.startLifetime()
	return m.commitRunning()
}

// step is one step of an operation.
type step struct {
	name string
	do   func(context.Context) error
}

func (b *body) makeDirs(context.Context) error { return os.MkdirAll(b.Dir.VM(), 0o700) }

// cloneOnce restores the base and gives the guest an identity of its own.
func (b *body) cloneOnce(ctx context.Context) error {
	if err := b.step(ctx, journal.StepCreateVMM, b.restoreBase); err != nil {
		return err
	}
	ctx, stop := b.UntilExit(ctx)
	defer stop()
	err := b.step(ctx, journal.StepCreateGuest, b.startCPUs)
	if err != nil {
		return err
	}
	return b.step(ctx, journal.StepCreateConfigure, func(ctx context.Context) error {
		b.Guest().SetToken(b.baseToken)
		if b.fromForced {
			if err := b.holdCopy(ctx); err != nil {
				return err
			}
		}
		if err := b.configure(ctx, renewal{identity: true, token: randomToken()}); err != nil {
			return err
		}
		b.awaitRenewed(ctx, b.templateStart, renewedLimit)
		return nil
	})
}

// holdCopy freezes the user processes of a copy whose original was not frozen,
// so that no more of their code runs before it is renewed. A copy whose guest
// does not answer is not handed out.
func (b *body) holdCopy(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, copyFactor*b.mgr.cfg.GuestTimeout)
	defer cancel()
	err := b.Guest().Ping(limit)
	if err == nil {
		err = b.Guest().Hold(limit)
	}
	switch {
	case err == nil || ctx.Err() != nil:
		return causeOr(ctx, err)
	case fault.ReasonOf(err) == reasonGuestFailed:
		return nil // it had sealed itself and its answer was lost: its processes are frozen
	}
	return fault.Wrap(err, fault.Unavailable, reasonUnresponsive,
		"the snapshot was taken without its guest's help, and the copy's guest does not answer; a copy that cannot be renewed is not handed out")
}

const (
	// copyFactor is how many times GuestTimeout the guest of a copy has to answer.
	copyFactor = 2
	// reasonGuestFailed is the reason of a guest that refuses a call.
	reasonGuestFailed = "guest_failed"
)

// restoreBase starts a VM from the base. Its virtual CPUs are stopped.
func (b *body) restoreBase(ctx context.Context) error {
	cfg, err := b.vmConfig(b.base())
	if err != nil {
		return err
	}
	if err := keepFiles(cfg.Disk, b.Dir.VM()); err != nil {
		return err
	}
	if b.VM, err = b.Driver().Restore(ctx, cfg, vmm.Image{Base: b.rec.Base}); err != nil {
		return err
	}
	return b.recordVM()
}

// startCPUs starts the virtual CPUs. The first call to the guest waits until it
// answers.
func (b *body) startCPUs(ctx context.Context) error {
	b.SetGuest(b.NewGuest())
	b.ran = true
	return b.VM.Resume(ctx)
}

// commitRunning commits the state running and opens the gate.
func (m *machine) commitRunning() error {
	m.rec.LastActive = time.Now()
	if err := m.commitState(sandbox.Running); err != nil {
		return err
	}
	m.openGate()
	return nil
}

// startAttempts is the number of attempts at a start, because software emulation
// loses a boot now and then.
const startAttempts = 2

// startGuest calls once, which starts the VM and returns when its guest has
// been configured. A start that hangs or dies is tried once more, and counted.
func (b *body) startGuest(ctx context.Context, once func(context.Context) error) error {
	for attempt := 1; ; attempt++ {
		err := b.withinBootTimeout(ctx, once)
		if err == nil || attempt == startAttempts || ctx.Err() != nil || fault.ReasonOf(err) == reasonUnresponsive {
			return err
		}
		b.mgr.bootRetries.Add(1)
		b.log.WarnContext(ctx, "the VM did not come up, trying again", "step", b.rec.Step, "error", err, "console", b.Console(ctx))
		if err := b.endVM(ctx); err != nil {
			return err
		}
	}
}

func (b *body) withinBootTimeout(ctx context.Context, once func(context.Context) error) error {
	limit := b.mgr.cfg.BootTimeout
	if b.rec.Boot {
		limit = b.diskTimeout()
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit,
		fault.New(fault.HostFailed, "boot_timeout", "the guest did not come up within %s", limit))
	defer cancel()
	return once(ctx)
}

// recordVM writes the started process to the journal and puts it under its limits,
// which some hosts can only do after the start.
func (b *body) recordVM() error {
	rec := b.VM.Record()
	b.rec.VM = &rec
	return errors.Join(b.save(), b.Group.Add(rec.PID))
}
