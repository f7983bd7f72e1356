package fake

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/mapped"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// buildID names the only build of the fake VMM.
const buildID = "fake-1"

// Driver implements vmm.Driver on a Host. A host has at most one driver of each shape
// per agent. Those of its successors have the same shapes.
type Driver struct {
	host  *Host
	shape vmm.Shape
}

// New returns a driver of the shape Mapped that starts VMs on h.
func New(h *Host) *Driver { return NewOf(h, Mapped) }

// NewOf returns a driver that starts VMs on h, of the shape Mapped or Checkpointed.
func NewOf(h *Host, shape vmm.Shape) *Driver { return &Driver{h, shape} }

// name is the driver's name, which differs between the shapes.
func (d *Driver) name() string {
	if d.shape == Checkpointed {
		return "fake-checkpoint"
	}
	return "fake"
}

// Info implements vmm.Driver.
func (d *Driver) Info() vmm.Info {
	info := vmm.Info{
		Driver: d.name(), Version: "1", Acceleration: vmm.TCG, Reason: "VMs are fakes in a test process", MaxVCPUs: 8,
		Runtime: sandbox.RuntimeMicroVM, Isolation: sandbox.IsolationProcess, Shape: d.shape,
	}
	if d.shape == Checkpointed {
		info.Runtime, info.Isolation = sandbox.RuntimeGVisor, sandbox.IsolationUserspaceKernel
	}
	return info
}

// Fingerprint implements vmm.Driver.
func (d *Driver) Fingerprint(cfg vmm.Config) map[string]string {
	return map[string]string{
		"driver": d.name(), "acceleration": string(vmm.TCG), "cpu": "fake", "devices": "none",
		"vcpus": strconv.Itoa(cfg.VCPUs), "memory_mb": strconv.Itoa(cfg.MemoryMB),
		vmm.FingerprintBinary: buildID, vmm.FingerprintVersion: "1",
	}
}

// BootInputs implements vmm.Driver. A fake guest boots no file.
func (*Driver) BootInputs() map[string]string { return nil }

// BuildOf implements vmm.Driver.
func (*Driver) BuildOf(saved map[string]string) (string, error) {
	if saved[vmm.FingerprintBinary] != buildID {
		return "", fault.New(fault.WrongState, "vmm_build_missing", "the build %q of the VMM is missing", saved[vmm.FingerprintBinary])
	}
	return buildID, nil
}

// Builds implements vmm.Driver.
func (*Driver) Builds() ([]vmm.Build, error) {
	return []vmm.Build{{ID: buildID, Version: "1", Current: true}}, nil
}

// RemoveBuild implements vmm.Driver.
func (*Driver) RemoveBuild(context.Context, string) error {
	return fault.New(fault.WrongState, "vmm_build_missing", "the current build cannot be removed")
}

// Start implements vmm.Driver.
func (d *Driver) Start(ctx context.Context, cfg vmm.Config) (vmm.VM, error) {
	p, err := d.launch(ctx, cfg, func(p *process) error {
		if err := p.loadMemory(ctx, vmm.Image{}); err != nil {
			return err
		}
		if cfg.Scratch != "" && !d.shape.DiskInSnapshot {
			// The base of the VM's deltas. The VM has a memory file of its own.
			if _, err := mapped.BootMemory(cfg.Scratch, int64(cfg.MemoryMB)<<20); err != nil {
				return err
			}
		}
		return p.loadGuest(nil, p.bootDisk)
	})
	if err != nil {
		return nil, err
	}
	return d.run(p)
}

// run starts the virtual CPUs of a new VM.
func (d *Driver) run(p *process) (vmm.VM, error) {
	var err error
	if p.do(func() { err = p.resume() }); err != nil {
		p.end(vmm.CauseVMM)
		return nil, err
	}
	return d.vm(p), nil
}

// vm returns the driver's hold on p.
func (d *Driver) vm(p *process) vmm.VM {
	if d.shape.DiskInSnapshot {
		return &checkpointedVM{vm{process: p}}
	}
	return &mappedVM{vm{process: p}}
}

// Restore implements vmm.Driver.
func (d *Driver) Restore(ctx context.Context, cfg vmm.Config, from vmm.Image) (vmm.VM, error) {
	if d.shape.DiskInSnapshot {
		return d.restoreCheckpoint(ctx, cfg, from)
	}
	saved, err := readState(mapped.StateFile(from))
	if err != nil {
		return nil, err
	}
	if err := saved.fits(cfg); err != nil {
		return nil, err
	}
	p, err := d.launch(ctx, cfg, func(p *process) error {
		if err := p.loadMemory(ctx, from); err != nil {
			return err
		}
		return p.loadGuest(saved, func() error { return readDisk(cfg.Disk, saved.Stamp, p.root) })
	})
	if err != nil {
		return nil, err
	}
	return d.vm(p), nil
}

// Files implements vmm.Driver.
func (d *Driver) Files(form vmm.Form) []vmm.File {
	if d.shape.DiskInSnapshot {
		return []vmm.File{{Name: checkpointName, Noun: "checkpoint", Summed: true}}
	}
	return mapped.Files(form)
}

// CheckDelta implements vmm.Driver.
func (d *Driver) CheckDelta(cfg vmm.Config, dir string) error {
	if d.shape.DiskInSnapshot {
		_, err := readCheckpoint(checkpointFile(vmm.Image{Delta: dir}))
		return err
	}
	return mapped.CheckDelta(dir, int64(cfg.MemoryMB)<<20)
}

// Flatten implements vmm.Driver.
func (d *Driver) Flatten(ctx context.Context, from vmm.Image, dir string) error {
	if d.shape.DiskInSnapshot {
		return flattenCheckpoint(ctx, from, dir)
	}
	return mapped.Flatten(ctx, from, dir)
}

// checkConfig refuses a configuration that is not complete, or is meant for a driver
// of another shape.
func (d *Driver) checkConfig(cfg vmm.Config) error {
	paths := []string{cfg.RootImage, cfg.Dir}
	if d.shape.DiskInSnapshot == (cfg.Disk != "") || d.shape.DiskInSnapshot && cfg.DiskMB == 0 {
		return fmt.Errorf("the disk %q of %d MiB is not one for this driver", cfg.Disk, cfg.DiskMB)
	}
	if cfg.Disk != "" {
		paths = append(paths, cfg.Disk)
	}
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			return err
		}
	}
	return nil
}

// attach connects p to its network.
func (d *Driver) attach(p *process) error {
	if d.shape.Attachment == vmm.AttachNamespace {
		p.tap = p.cfg.Network.Namespace
		_, err := os.Stat(p.tap)
		return err
	}
	tap, err := p.cfg.Network.OpenTap()
	if err != nil {
		return err
	}
	p.tap = tap.Name()
	return tap.Close()
}

// launch makes a stopped VM of cfg, which load gives its memory and its guest.
func (d *Driver) launch(ctx context.Context, cfg vmm.Config, load func(*process) error) (_ *process, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := d.checkConfig(cfg); err != nil {
		return nil, err
	}
	if cfg.Build != "" && cfg.Build != buildID {
		return nil, fmt.Errorf("there is no build %q", cfg.Build)
	}
	p := newProcess(d.host, d.name(), cfg)
	defer func() {
		if err != nil {
			p.release()
		}
	}()
	if err := d.attach(p); err != nil {
		return nil, err
	}
	if err := load(p); err != nil {
		return nil, err
	}
	return p, d.host.enter(p)
}

// Adopt implements vmm.Driver.
func (d *Driver) Adopt(_ context.Context, rec vmm.Record) (vmm.VM, error) {
	p := d.host.find(rec)
	if p == nil || p.rec.Driver != d.name() {
		return nil, fmt.Errorf("the VM process %d/%d is gone", rec.PID, rec.StartTicks)
	}
	p.do(p.abandonCopy)
	return d.vm(p), nil
}

// KillRecord implements vmm.Driver.
func (d *Driver) KillRecord(_ context.Context, rec vmm.Record) error {
	d.host.End(rec, vmm.CauseKilled)
	return nil
}

// Find implements vmm.Driver.
func (d *Driver) Find(root string) ([]vmm.Record, error) { return d.host.below(root, d.name()), nil }
