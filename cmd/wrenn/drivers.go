package main

import (
	"context"
	"fmt"
	"runtime"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/gvisor"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/kvmprobe"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/qemu"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/tsc"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// drivers returns the drivers of the runtimes that this host offers, the preferred
// one first. Without gVisor it goes on with microVMs, unless gVisor was asked for, and
// without QEMU with gVisor, unless QEMU was asked for.
func (a hostAgent) drivers(ctx context.Context, images *image.Store) (vmm.Drivers, error) {
	report, err := kvmprobe.Cached(ctx, a.dirs.probe())
	if err != nil {
		a.log.Warn("cannot store the result of the KVM probe", "error", err)
	}
	kernel, initramfs, err := prepareImages(ctx, images, a.host.templates, logProgress(a.log))
	if err != nil {
		return nil, err
	}
	choice := a.host.runtime.preference()
	sentries, sentriesErr := a.gVisor(ctx, images, choice.GVisorReason(report))
	micro, microErr := a.microVMs(ctx, kernel, initramfs, report)
	var drivers vmm.Drivers
	switch {
	case sentriesErr != nil && choice.Required():
		return nil, sentriesErr
	case microErr != nil && (sentriesErr != nil || !a.canMissQEMU(microErr)):
		return nil, microErr
	case microErr != nil:
		drivers = vmm.Drivers{sentries}
	case sentriesErr != nil:
		drivers = vmm.Drivers{micro}
	case choice.PrefersGVisor(report):
		drivers = vmm.Drivers{sentries, micro}
	default:
		drivers = vmm.Drivers{micro, sentries}
	}
	a.tellMissing(sandbox.RuntimeMicroVM, microErr)
	a.tellMissing(sandbox.RuntimeGVisor, sentriesErr)
	for i, d := range drivers {
		info := d.Info()
		a.log.Info("runtime offered", "runtime", info.Runtime, "preferred", i == 0, "isolation", info.Isolation,
			"driver_version", info.Version, "acceleration", info.Acceleration, "reason", info.Reason)
	}
	return drivers, nil
}

// canMissQEMU reports whether a host with gVisor starts without microVMs, which failed
// with err: QEMU is not installed, and no setting asks for it.
func (a hostAgent) canMissQEMU(err error) bool {
	return fault.ReasonOf(err) == reasonVMMMissing && a.host.qemu == "" &&
		a.host.acceleration == string(kvmprobe.Auto) && a.host.runtime.preference().Runtime != sandbox.RuntimeMicroVM
}

// reasonVMMMissing is the reason of a driver whose program is not installed.
const reasonVMMMissing = "vmm_missing"

// tellMissing logs why a runtime is not offered, if err is not nil.
func (a hostAgent) tellMissing(runtime sandbox.Runtime, err error) {
	switch {
	case err == nil:
	case fault.ReasonOf(err) == reasonVMMMissing:
		a.log.Info("a runtime is not offered", "runtime", runtime, "reason", fault.As(err).Public)
	default:
		a.log.Warn("a runtime is not offered, because it cannot be used", "runtime", runtime, "error", err)
	}
}

// finders find the VM processes of every runtime, whether or not the host offers it.
func finders() []vmm.Finder { return []vmm.Finder{new(qemu.Driver), new(gvisor.Driver)} }

// microVMs returns the QEMU driver with the acceleration that --accel selects.
func (a hostAgent) microVMs(ctx context.Context, kernel image.Kernel, initramfs image.Initramfs, report kvmprobe.Report) (vmm.Driver, error) {
	acceleration, reason, err := kvmprobe.Choose(kvmprobe.Policy(a.host.acceleration), report)
	if err != nil {
		return nil, err
	}
	khz, err := tsc.HostKHz()
	if err != nil {
		return nil, err
	}
	launcher, err := jailLauncher()
	if err != nil {
		return nil, err
	}
	driver, err := qemu.New(ctx, qemu.Options{
		Binary: a.host.qemu, Builds: a.dirs.builds(), Jail: launcher, Acceleration: vmm.Acceleration(acceleration), Reason: reason,
		TSCKHz: khz, MaxVCPUs: runtime.NumCPU(), Log: a.log,
	})
	if err != nil {
		return nil, err
	}
	return driver.WithBoot(qemu.Boot{
		Kernel: kernel.Vmlinux, Initrd: initramfs.Path, KernelDigest: kernel.Digest, InitrdDigest: initramfs.Digest, Release: kernel.Release,
	}), nil
}

// gVisor returns the gVisor driver. The images have been prepared.
func (a hostAgent) gVisor(ctx context.Context, images *image.Store, reason string) (vmm.Driver, error) {
	guest, err := guestBinary()
	if err != nil {
		return nil, err
	}
	agent, err := images.EnsureAgent(ctx, guest)
	if err != nil {
		return nil, err
	}
	driver, err := gvisor.New(ctx, gvisor.Options{
		Program: a.host.runtime.runsc, Built: a.dirs.builtRunsc(), Builds: a.dirs.runsc(), Agent: agent.Path,
		Reason: reason, MaxVCPUs: runtime.NumCPU(), Log: a.log,
		MemoryFloorMB: host.MemoryFloorMB(a.host.memoryReserveMB), DiskOvercommit: a.host.diskOvercommit,
	})
	if err != nil {
		return nil, err
	}
	return driver, renewTemplate(ctx, images, logProgress(a.log))
}

// renewTemplate replaces a default template that an older version of Wrenn made and
// that the sentry cannot read.
func renewTemplate(ctx context.Context, images *image.Store, progress image.Progress) error {
	recipe := image.Minimal()
	have, err := images.Template(recipe.Name)
	if err != nil || have.ForGVisor() || have.RecipeDigest == recipe.Digest() {
		return err
	}
	if _, err = images.EnsureTemplate(ctx, recipe, progress); err != nil {
		return fmt.Errorf("build the template %s again, which an older version made: %w", recipe.Name, err)
	}
	return nil
}
