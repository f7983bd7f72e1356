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

// Driver implements vmm.Driver on a Host. Several drivers of one host are an
// agent and its successors.
type Driver struct{ host *Host }

// New returns a driver that starts VMs on h.
func New(h *Host) *Driver { return &Driver{h} }

// Info implements vmm.Driver.
func (*Driver) Info() vmm.Info {
	return vmm.Info{
		Driver: "fake", Version: "1", Acceleration: vmm.TCG, Reason: "VMs are fakes in a test process", MaxVCPUs: 8,
		Isolation: sandbox.IsolationProcess, Shape: vmm.Shape{SharesMemory: true, Attachment: vmm.AttachTap},
	}
}

// Fingerprint implements vmm.Driver.
func (*Driver) Fingerprint(cfg vmm.Config) map[string]string {
	return map[string]string{
		"driver": "fake", "acceleration": string(vmm.TCG), "cpu": "fake", "devices": "none",
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
	p, err := d.launch(ctx, cfg, vmm.Image{}, nil)
	if err != nil {
		return nil, err
	}
	if err := p.resume(); err != nil {
		p.end(vmm.CauseVMM)
		return nil, err
	}
	return &vm{process: p}, nil
}

// Restore implements vmm.Driver.
func (d *Driver) Restore(ctx context.Context, cfg vmm.Config, from vmm.Image) (vmm.VM, error) {
	saved, err := readState(mapped.StateFile(from))
	if err != nil {
		return nil, err
	}
	if saved.VCPUs != cfg.VCPUs || saved.MemoryMB != cfg.MemoryMB {
		return nil, fmt.Errorf("the state is that of a VM of another size")
	}
	p, err := d.launch(ctx, cfg, from, saved)
	if err != nil {
		return nil, err
	}
	return &vm{process: p}, nil
}

// Files implements vmm.Driver.
func (*Driver) Files(form vmm.Form) []vmm.File { return mapped.Files(form) }

// CheckDelta implements vmm.Driver.
func (*Driver) CheckDelta(cfg vmm.Config, dir string) error {
	return mapped.CheckDelta(dir, int64(cfg.MemoryMB)<<20)
}

// Flatten implements vmm.Driver.
func (*Driver) Flatten(ctx context.Context, from vmm.Image, dir string) error {
	return mapped.Flatten(ctx, from, dir)
}

// launch makes a stopped VM of cfg, with the memory of from and the device state
// saved, or a blank one if that is nil.
func (d *Driver) launch(ctx context.Context, cfg vmm.Config, from vmm.Image, saved *deviceState) (_ *process, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, path := range []string{cfg.RootImage, cfg.Disk, cfg.Dir} {
		if _, err := os.Stat(path); err != nil {
			return nil, err
		}
	}
	if cfg.Build != "" && cfg.Build != buildID {
		return nil, fmt.Errorf("there is no build %q", cfg.Build)
	}
	p := newProcess(d.host, cfg)
	defer func() {
		if err != nil {
			p.release()
		}
	}()
	tap, err := cfg.Network.OpenTap()
	if err != nil {
		return nil, err
	}
	p.tap = tap.Name()
	if err := tap.Close(); err != nil {
		return nil, err
	}
	if err := p.loadMemory(ctx, from); err != nil {
		return nil, err
	}
	if err := p.loadGuest(saved); err != nil {
		return nil, err
	}
	return p, d.host.enter(p)
}

// Adopt implements vmm.Driver.
func (d *Driver) Adopt(_ context.Context, rec vmm.Record) (vmm.VM, error) {
	p := d.host.find(rec)
	if p == nil {
		return nil, fmt.Errorf("the VM process %d/%d is gone", rec.PID, rec.StartTicks)
	}
	p.do(p.abandonCopy)
	return &vm{process: p}, nil
}

// KillRecord implements vmm.Driver.
func (d *Driver) KillRecord(_ context.Context, rec vmm.Record) error {
	d.host.End(rec, vmm.CauseKilled)
	return nil
}

// Find implements vmm.Driver.
func (d *Driver) Find(root string) ([]vmm.Record, error) { return d.host.below(root), nil }
