package host

import (
	"context"

	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// A sandbox that is made from a snapshot without memory boots from a copy of its disk. As
// after a boot from the disk of a pause (see commitBoot), its base is then a blank memory
// of its own, so that it is no user of the snapshot any more.

// createByBoot is the part of createFrom after the base is known. Start commands run
// again outside of the turn, so that other sandboxes can be started meanwhile. If the VM ends
// meanwhile, a second boot leaves them out: one of them may have ended it, and would end that
// of each create from the snapshot.
func (m *machine) createByBoot(ctx context.Context) error {
	err := m.inTurn(ctx, func(ctx context.Context) error { return m.build(ctx, m.bootCopyOnce) })
	if err != nil {
		return err
	}
	if err = m.startAgain(ctx); err != nil && ctx.Err() == nil && m.Ended() {
		m.log.WarnContext(ctx, "the VM ended while the start commands of the template started; booting again without them", "error", err)
		m.rec.SkipStart = true
		err = m.bootCopyAgain(ctx)
	}
	if err != nil {
		return err
	}
	return m.step(ctx, journal.StepCreateCommit, m.commitBootedCopy)
}

// bootCopyAgain boots from the copy of the base's disk after the first VM has ended, and
// reports the start commands that are left out.
func (m *machine) bootCopyAgain(ctx context.Context) error {
	if err := m.endVM(ctx); err != nil {
		return err
	}
	err := m.inTurn(ctx, func(ctx context.Context) error { return m.startGuest(ctx, m.bootCopyOnce) })
	if err != nil {
		return err
	}
	return m.startAgain(ctx)
}

// bootCopyOnce is cloneOnce for a VM that boots from the copy of the base's disk.
func (b *body) bootCopyOnce(ctx context.Context) error {
	if err := b.step(ctx, journal.StepCreateVMM, b.startBootedCopy); err != nil {
		return err
	}
	ctx, stop := b.UntilExit(ctx)
	defer stop()
	if err := b.step(ctx, journal.StepCreateGuest, b.awaitGuest); err != nil {
		return err
	}
	return b.step(ctx, journal.StepCreateConfigure, func(ctx context.Context) error {
		return b.configure(ctx, renewal{identity: true, users: true, token: randomToken()})
	})
}

// startBootedCopy starts the VM that boots. A disk of the driver is in the saved VM of the
// base, which is restored to get at its content.
func (b *body) startBootedCopy(ctx context.Context) error {
	if !b.hasDiskFile() {
		if err := b.extractDisk(ctx); err != nil {
			return err
		}
	}
	if err := b.bootDir().Recreate(); err != nil {
		return err
	}
	b.ran = true
	return b.startCold(ctx, string(b.bootDir()))
}

// extractDisk saves the content of the disk of the base for the boot.
func (b *body) extractDisk(ctx context.Context) error {
	cfg, err := b.vmConfig(b.base())
	if err != nil {
		return err
	}
	if err := keepFiles(b.Dir.VM()); err != nil {
		return err
	}
	if b.VM, err = b.Driver().Restore(ctx, cfg, vmm.Image{Base: b.rec.Base}); err != nil {
		return err
	}
	if err := b.recordVM(); err != nil {
		return err
	}
	limited, stop := b.UntilExit(ctx)
	defer stop()
	if err := b.saveDisk(limited); err != nil {
		return err
	}
	return b.endVM(ctx)
}

// commitBootedCopy is commitCreate for a sandbox that has booted.
func (m *machine) commitBootedCopy(ctx context.Context) error {
	if err := m.sealBoot(ctx); err != nil {
		return err
	}
	if err := m.holdBase(m.bootDir()); err != nil {
		return err
	}
	m.rec.Boot = false
	if err := m.commitCreate(ctx); err != nil {
		return err
	}
	m.removeStaleBoots(ctx)
	return nil
}
