package qemu

import (
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// Boot is the guest kernel that Start boots. Restore does not read it.
type Boot struct {
	// Kernel is the path of an uncompressed ELF image with a PVH note, Initrd that
	// of the initial RAM disk.
	Kernel, Initrd string
	// KernelDigest and InitrdDigest are the digests of the two files.
	KernelDigest, InitrdDigest string
	// Release is the kernel's release, as uname -r prints it.
	Release string
	// Cmdline is added to the driver's own kernel command line.
	Cmdline string
}

// WithBoot returns a driver like d that boots b. New returns one that can only
// restore, so that a host without QEMU is told so before its kernel is built.
func (d *Driver) WithBoot(b Boot) *Driver {
	with := *d
	with.boot, with.info.GuestKernel = b, b.Release
	return &with
}

// BootInputs implements vmm.Driver.
func (d *Driver) BootInputs() map[string]string {
	return map[string]string{vmm.BootKernel: d.boot.KernelDigest, "initramfs": d.boot.InitrdDigest}
}

// checkBoot fails for a driver without a kernel.
func (d *Driver) checkBoot() error {
	if d.boot.Kernel == "" || d.boot.Initrd == "" {
		return fault.New(fault.Internal, "internal", "the QEMU driver has no kernel to boot; give it one by WithBoot")
	}
	return nil
}
