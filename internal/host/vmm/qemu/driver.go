package qemu

import (
	"context"
	"log/slog"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/emulator"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/jail"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/mapped"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Name is the driver's name in records and in the API.
const Name = "qemu"

// DefaultBinary is looked up in PATH.
const DefaultBinary = "qemu-system-x86_64"

// shape is that of every QEMU VM. The overhead in memory is for the translation
// cache, heap, libraries and page tables, that in CPUs for disk and network
// emulation.
var shape = vmm.Shape{SharesMemory: true, Attachment: vmm.AttachTap, OverheadMB: 256, OverheadCPUs: 0.5}

// Options choose how the driver runs QEMU. All are fixed for its life.
type Options struct {
	// Binary is the installed QEMU's name or path; empty is DefaultBinary.
	Binary string
	// Builds is the directory that copies of QEMU are kept in, and run from.
	// Agents may share one. Required.
	Builds string
	// Acceleration must have been probed; Reason says in a sentence why it was chosen.
	Acceleration vmm.Acceleration
	Reason       string
	// TSCKHz is the rate of the host's time stamp counter. Required for TCG,
	// where it is the rate of the guest's clock.
	TSCKHz uint64
	// MaxVCPUs is the most virtual CPUs that a VM may have.
	MaxVCPUs int
	// Jail starts every VM process. Required.
	Jail *jail.Launcher
	Log  *slog.Logger
}

// Driver runs VMs with QEMU. It is safe for use by several goroutines.
type Driver struct {
	store   *emulator.Store
	current build // the installed one, which new VMs are started under
	jail    *jail.Launcher
	tscKHz  uint64
	cpu     hostCPU // under KVM
	info    vmm.Info
	boot    Boot // zero before WithBoot
	log     *slog.Logger
}

var _ vmm.Driver = (*Driver)(nil)

// New finds QEMU, keeps a copy of it and asks for its version. It fails with
// kind Unsupported where QEMU is missing, too old to run at all, or cannot be
// run from Options.Builds.
func New(ctx context.Context, o Options) (*Driver, error) {
	switch {
	case o.Log == nil || o.Jail == nil || o.Builds == "":
		return nil, fault.New(fault.Internal, "internal", "qemu.New needs a logger, a jail and a directory for builds")
	case o.Acceleration == vmm.TCG && o.TSCKHz == 0:
		return nil, fault.New(fault.Invalid, "tsc_unknown", "software emulation needs the rate of the time stamp counter")
	}
	d := &Driver{jail: o.Jail, tscKHz: o.TSCKHz, log: o.Log}
	if err := d.keepInstalled(ctx, o); err != nil {
		return nil, err
	}
	v := d.current.version
	d.info = vmm.Info{
		Driver: Name, Version: v.String(), Acceleration: o.Acceleration, Reason: o.Reason,
		Runtime: sandbox.RuntimeMicroVM, Isolation: isolation(o.Acceleration), MultiTenant: multiTenant(o.Acceleration, v), MaxVCPUs: o.MaxVCPUs,
		Shape: shape,
	}
	if o.Acceleration == vmm.TCG && !v.atLeast(8, 1) {
		d.info.MaxVCPUs = 1 // older ones race when guest code is patched on several CPUs
	}
	if o.Acceleration == vmm.KVM {
		d.cpu = readHostCPU()
	}
	return d, nil
}

// Files returns the files of a snapshot.
func (d *Driver) Files(form vmm.Form) []vmm.File { return mapped.Files(form) }

// CheckDelta looks whether a delta is whole, but for its pages.
func (d *Driver) CheckDelta(cfg vmm.Config, dir string) error {
	return mapped.CheckDelta(dir, int64(cfg.MemoryMB)<<20)
}

// Flatten makes a whole snapshot of a delta and its base.
func (d *Driver) Flatten(ctx context.Context, from vmm.Image, dir string) error {
	return mapped.Flatten(ctx, from, dir)
}

// Info describes the driver on this host.
func (d *Driver) Info() vmm.Info { return d.info }

// isolation is the boundary around a guest under an acceleration.
func isolation(a vmm.Acceleration) sandbox.Isolation {
	if a == vmm.KVM {
		return sandbox.IsolationHardware
	}
	return sandbox.IsolationProcess
}

// multiTenant reports whether tenants who distrust each other may share a host.
// Emulation is no boundary for that: QEMU does not treat faults of its
// translator as vulnerabilities (QEMU docs, system/security).
func multiTenant(a vmm.Acceleration, v version) bool { return a == vmm.KVM && v.memoryReadOnly() }
