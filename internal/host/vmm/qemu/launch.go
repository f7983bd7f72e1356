package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/mapped"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/process"
)

// Start boots cfg cold, with guest memory in a file of the scratch directory.
func (d *Driver) Start(ctx context.Context, cfg vmm.Config) (vmm.VM, error) {
	if err := d.checkBoot(); err != nil {
		return nil, err
	}
	memory, err := bootMemory(cfg)
	if err != nil {
		return nil, err
	}
	v, _, err := d.start(ctx, cfg, memory, nil)
	if err != nil {
		return nil, err // never a nil *vm in a non-nil interface
	}
	return v, nil
}

// bootMemory creates the memory file of a cold boot, which the VM process owns.
func bootMemory(cfg vmm.Config) (string, error) {
	path, err := mapped.BootMemory(cfg.Scratch, int64(cfg.MemoryMB)<<20)
	if err != nil || os.Geteuid() != 0 {
		return path, err
	}
	return path, os.Chown(path, cfg.UID, cfg.GID)
}

// Restore starts cfg from a saved VM and leaves it paused. QEMU maps the base's
// memory file; the pages of a delta are written into the mapping before QEMU
// loads the device state, because that looks at guest memory.
func (d *Driver) Restore(ctx context.Context, cfg vmm.Config, from vmm.Image) (vmm.VM, error) {
	f, err := os.Open(mapped.StateFile(from))
	if err != nil {
		return nil, fmt.Errorf("open device state: %w", err)
	}
	defer f.Close()
	v, b, err := d.start(ctx, cfg, mapped.MemoryFile(from.Base), f)
	if err != nil {
		return nil, err
	}
	if err := mapped.Fill(ctx, from, v.Record().PID, v.Record().MemoryFile); err != nil {
		return nil, errors.Join(err, v.Kill(context.WithoutCancel(ctx)))
	}
	if err := v.load(ctx, b.version); err != nil {
		detail := v.messages.String()
		_ = v.Kill(context.WithoutCancel(ctx))
		return nil, fault.Wrap(fmt.Errorf("%w (qemu: %s)", err, detail), fault.HostFailed, "restore_failed",
			"the VM's saved state could not be loaded")
	}
	return v, nil
}

// start starts the build that cfg names, with the file memory as guest memory,
// and connects to it.
func (d *Driver) start(ctx context.Context, cfg vmm.Config, memory string, state *os.File) (*vm, build, error) {
	b, err := d.build(ctx, cfg.Build)
	if err != nil {
		return nil, b, err
	}
	cmd, messages, err := d.spawn(b, cfg, memory, state)
	if err != nil {
		return nil, b, fault.Wrap(err, fault.HostFailed, "vmm_start_failed", "the VM process could not be started")
	}
	v, err := d.attachChild(ctx, cfg, memory, cmd, messages)
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, b, fault.Wrap(fmt.Errorf("%w (qemu: %s)", err, messages), fault.HostFailed, "vmm_start_failed",
			"the VM process did not come up")
	}
	return v, b, nil
}

func (d *Driver) attachChild(ctx context.Context, cfg vmm.Config, memory string, cmd *exec.Cmd, messages *tail) (*vm, error) {
	rec, err := process.Identify(Name, cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	rec.ID, rec.Dir, rec.MemoryFile = cfg.ID, cfg.Dir, memory
	return attach(ctx, rec, cmd, messages)
}

// attach connects to the process of rec and starts to watch it. A process of an
// earlier agent has adoptTimeout for its first answer; a child, which loads its
// libraries before, has greetTimeout.
func attach(ctx context.Context, rec vmm.Record, child *exec.Cmd, messages *tail) (*vm, error) {
	p, err := process.Open(rec)
	if err != nil {
		return nil, err
	}
	v := &vm{Process: p, child: child, messages: messages, stalled: make(chan struct{}, 1)}
	v.link = link{path: monitorPath(rec.Dir), onEvent: v.onEvent, onReconnect: v.tellStalled, fresh: child != nil}
	limit := greetTimeout
	if child == nil {
		limit = adoptTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err = v.link.monitor(ctx)
	if err != nil && (child != nil || !v.Runs()) {
		v.Detach()
		return nil, err
	}
	// A process of an earlier agent that runs and does not answer may do so
	// later: calls connect then.
	go v.Watch(v.ended)
	return v, nil
}

// Adopt connects to a process that an earlier agent started.
func (d *Driver) Adopt(ctx context.Context, rec vmm.Record) (vmm.VM, error) {
	v, err := attach(ctx, rec, nil, &tail{})
	if err != nil {
		return nil, err // never a nil *vm in a non-nil interface
	}
	// Where the process does not answer now, the copy that an earlier agent may
	// have begun ends with the first Resume that it carries out. Until then it
	// costs the VM time, and nothing else.
	if v.copyLeft.Store(true); v.link.connected() {
		err := v.AbandonDiskCopy(ctx)
		if v.copyLeft.Store(err != nil); err != nil {
			d.log.WarnContext(ctx, "a copy of a disk that an earlier agent has begun could not be ended", "pid", rec.PID, "error", err)
		}
	}
	return v, nil
}

// KillRecord ends the process of rec, if it is still that process.
func (d *Driver) KillRecord(ctx context.Context, rec vmm.Record) error {
	if err := process.End(ctx, rec); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}
