package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/memory"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// create is the first act of a new machine.
func (m *machine) create(life context.Context) {
	defer close(m.booted)
	ctx, done := m.interruptible(life)
	defer done()
	m.begin(opCreate)
	m.rec.CreatedAt = time.Now()
	err := m.boot(ctx)
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

// createFault keeps what a user can act upon and hides the rest.
func createFault(err error) error {
	switch f := fault.As(err); f.Kind {
	case fault.Internal:
		return fault.Wrap(err, fault.HostFailed, "boot_failed", "the sandbox could not be started")
	default:
		return f
	}
}

// boot makes everything that a machine consists of, step by step, and returns
// when commands can run. On error, what exists is left to finish.
func (m *machine) boot(ctx context.Context) error {
	if err := os.MkdirAll(string(m.dir), 0o711); err != nil {
		return err
	}
	template, err := m.mgr.template(m.rec.Spec.Template)
	if err != nil {
		return err
	}
	m.rec.TemplateDigest, m.rec.RootImage = template.Digest, template.Path
	for _, s := range []struct {
		name string
		do   func(context.Context) error
	}{
		{StepCreateRecord, func(context.Context) error { return os.MkdirAll(m.dir.vm(), 0o700) }},
		{StepCreateDisk, m.makeDisk},
		{StepCreateNetwork, m.makeNetwork},
		{StepCreateCgroup, m.makeCgroup},
		{StepCreateMemory, m.makeMemory},
	} {
		if err := m.step(ctx, s.name, s.do); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if err := m.bootGuest(ctx); err != nil {
		return err
	}
	return m.step(ctx, StepCreateCommit, func(context.Context) error {
		m.rec.StartedAt = time.Now()
		return m.goLive()
	})
}

// goLive settles the machine as running and opens the gate.
func (m *machine) goLive() error {
	m.rec.LastActive = time.Now()
	if err := m.settle(sandbox.Running, false); err != nil {
		return err
	}
	m.openGate(m.guest)
	return nil
}

func (m *machine) makeDisk(ctx context.Context) error {
	return disk.Create(ctx, m.dir.disk(), int64(m.rec.Spec.DiskMB)<<20)
}

func (m *machine) makeMemory(context.Context) error {
	return memory.CreateBase(m.dir.base(), int64(m.rec.Spec.MemoryMB)<<20)
}

// bootAttempts is how often a boot is tried: software emulation now and then
// loses one.
const bootAttempts = 2

// bootGuest starts the VM and waits until its guest has been configured. A
// boot that hangs or dies is tried once more, and counted.
func (m *machine) bootGuest(ctx context.Context) error {
	if err := m.mgr.boots.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer m.mgr.boots.Release(1)
	var err error
	for attempt := 1; ; attempt++ {
		if err = m.bootOnce(ctx); err == nil || attempt == bootAttempts || ctx.Err() != nil {
			return err
		}
		m.mgr.bootRetries.Add(1)
		m.log.WarnContext(ctx, "boot failed, trying again", "step", m.rec.Step, "error", err, "console", m.console(ctx))
		if err := m.endVM(ctx); err != nil {
			return err
		}
	}
}

func (m *machine) bootOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, m.mgr.cfg.BootTimeout,
		fault.New(fault.HostFailed, "boot_timeout", "the guest did not come up within %s", m.mgr.cfg.BootTimeout))
	defer cancel()
	err := m.step(ctx, StepCreateVMM, func(ctx context.Context) (err error) {
		cfg := m.vmConfig(m.dir.base())
		if err := m.giveFiles(cfg.UID, m.dir.disk(), m.dir.base(), m.dir.vm()); err != nil {
			return err
		}
		cfg.Kernel, cfg.Initrd = m.mgr.deps.Kernel.Vmlinux, m.mgr.deps.Initramfs.Path
		m.vm, err = m.mgr.driver.Start(ctx, cfg)
		return err
	})
	if err != nil {
		return err
	}
	if err := m.recordVM(); err != nil {
		return err
	}
	ctx, stop := m.untilExit(ctx)
	defer stop()
	if err := m.step(ctx, StepCreateGuest, m.awaitGuest); err != nil {
		return err
	}
	return m.step(ctx, StepCreateConfigure, func(ctx context.Context) error {
		if err := m.newToken(); err != nil {
			return err
		}
		return m.configure(ctx, true)
	})
}

// recordVM writes down the process just started and puts it under its limits,
// which on some hosts can only be done afterwards.
func (m *machine) recordVM() error {
	rec := m.vm.Record()
	m.rec.VM = &rec
	return errors.Join(m.save(false), m.group.Add(rec.PID))
}

// untilExit returns a context that ends with the VM.
func (m *machine) untilExit(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	exited, stopped := m.vm.Exited(), make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-exited:
			cancel(fault.New(fault.HostFailed, "guest_exited", "the VM ended while it was starting"))
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil); <-stopped }
}
