package qemu

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/jail"
)

// File descriptors handed to the VM process, by their number in it.
const (
	fdMonitor = 3 // listening QMP socket
	fdTap     = 4 // host side of the network card
	fdState   = 5 // saved device state, only for a restore
	fdKVM     = 6 // /dev/kvm, only where kvmByFd says so
	fdRoot    = 7 // the root image, open for reading
	fdDisk    = 8 // the disk, open for reading and writing
)

// Fd sets under which QEMU finds descriptors that it would otherwise open.
const (
	stateFdset = 1
	kvmFdset   = 2
	rootFdset  = 3
	diskFdset  = 4
)

// addFd makes a descriptor the only one of an fd set.
func addFd(fd, set int) []string { return []string{"-add-fd", fmt.Sprintf("fd=%d,set=%d", fd, set)} }

// fdsetPath is the name under which QEMU opens the descriptors of a set.
func fdsetPath(set int64) string { return fmt.Sprintf("/dev/fdset/%d", set) }

// Guest kernel parameters for every acceleration. panic=-1 with reboot=t turns
// a panic into a reset, which -no-reboot turns into an exit.
const commonCmdline = "console=ttyS0 quiet loglevel=1 panic=-1 reboot=t no_timer_check random.trust_cpu=1 " +
	"lsm=landlock audit=0 cryptomgr.notests"

// argv returns the arguments for cfg of a QEMU of version v. With restoring,
// the VM waits for its device state and has no kernel: under -incoming none
// would be loaded.
//
// Start and Restore must give the same devices in the same order, for device
// state is matched by position and name; that is why there is one function.
func (d *Driver) argv(v version, cfg vmm.Config, restoring bool) []string {
	args := []string{
		"-M", "microvm,acpi=on,pit=off,pic=off,rtc=on,isa-serial=on,suppress-vmdesc=on," +
			"memory-backend=mem0,dump-guest-core=off",
		"-accel", d.accelerator(v, restoring),
		"-cpu", d.cpuModel(),
		"-m", strconv.Itoa(cfg.MemoryMB),
		"-smp", strconv.Itoa(cfg.VCPUs),
		"-object", fmt.Sprintf("memory-backend-file,id=mem0,size=%dM,mem-path=%s,%s,prealloc=off,dump=off,merge=off",
			cfg.MemoryMB, jail.Memory, memoryMode(v)),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-global", "migration.send-configuration=off",
		"-blockdev", "driver=file,node-name=f0,filename=" + fdsetPath(rootFdset) + ",read-only=on,locking=off",
		"-blockdev", "driver=raw,node-name=d0,file=f0,read-only=on",
		"-device", "virtio-blk-device,drive=d0",
		"-blockdev", "driver=file,node-name=f1,filename=" + fdsetPath(diskFdset) + ",cache.no-flush=on,discard=unmap,aio=threads",
		"-blockdev", "driver=raw,node-name=d1,file=f1,discard=unmap,detect-zeroes=unmap",
		"-device", "virtio-blk-device,drive=d1,id=vdb,werror=enospc,rerror=report",
		"-netdev", fmt.Sprintf("tap,id=n0,fd=%d,vhost=off", fdTap),
		// A restored guest announces itself to nobody: its neighbour is
		// permanent, and an announcement would be work before its first answer.
		"-device", "virtio-net-device,netdev=n0,guest_announce=off,mac=" + cfg.Network.MAC,
		"-chardev", fmt.Sprintf("ringbuf,id=con,size=%d", consoleBytes),
		"-serial", "chardev:con",
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d,server=on,wait=off", fdMonitor),
		"-mon", "chardev=qmp,mode=control",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-name", "wrenn-" + cfg.ID + ",debug-threads=on",
		"-msg", "timestamp=on",
	}
	args = append(args, addFd(fdRoot, rootFdset)...)
	args = append(args, addFd(fdDisk, diskFdset)...)
	if d.kvmByFd(v) {
		args = append(args, addFd(fdKVM, kvmFdset)...)
	}
	if restoring {
		// -S: the saved state says "running", and the caller decides when the
		// virtual CPUs start.
		args = append(args, "-incoming", "defer", "-S")
		if v.loadsFiles() {
			// Older ones read the descriptor itself, which -add-fd would close.
			args = append(args, addFd(fdState, stateFdset)...)
		}
		return args
	}
	return append(args, "-kernel", jail.Kernel, "-initrd", jail.Initrd, "-append", d.cmdline())
}

// accelerator bounds, under software emulation, the translation cache (MiB),
// the only large overhead of a VM; the default is a share of the host's memory.
// A boot runs so much code once that a small cache would be emptied again and
// again.
//
// split-wx, which maps that cache once to write and once to execute, works in the
// jail but stays off: 7 % more CPU time for a boot and 28 % more for a command
// were measured with it, and it takes nothing from an intruder that the jail's
// list of system calls leaves to him.
func (d *Driver) accelerator(v version, restoring bool) string {
	switch {
	case d.kvmByFd(v):
		return "kvm,device=" + fdsetPath(kvmFdset)
	case d.info.Acceleration == vmm.KVM:
		return "kvm"
	case restoring:
		return "tcg,tb-size=32,thread=multi"
	default:
		return "tcg,tb-size=128,thread=multi"
	}
}

// kvmByFd reports whether QEMU is handed /dev/kvm open, as it can be since
// 10.0. VM processes then need neither the device's group nor its path, and run
// where /dev/kvm is root's alone, as in many containers.
func (d *Driver) kvmByFd(v version) bool {
	return d.info.Acceleration == vmm.KVM && v.atLeast(10, 0)
}

func (d *Driver) cpuModel() string {
	if d.info.Acceleration == vmm.KVM {
		return "host"
	}
	// Without these the guest copies and clears memory eight bytes at a time,
	// for which an emulated string instruction takes an eighth of the steps.
	return "max,erms=off,fsrm=off"
}

// memoryMode keeps the memory file unwritable for QEMU where its version can
// (8.2 and later); older ones need it open for writing even for a private
// mapping.
func memoryMode(v version) string {
	if v.memoryReadOnly() {
		return "share=off,readonly=on,rom=off"
	}
	return "share=off"
}

// emulatedCmdline is for software emulation. The mitigations are pure cost on
// an emulated CPU; pressure accounting, the charging of kernel objects to
// groups and the watchdog cost a tenth of a command.
const emulatedCmdline = "tsc=reliable mitigations=off init_on_alloc=0 psi=0 cgroup.memory=nokmem,nosocket nowatchdog"

// profile returns the part of the kernel command line that is the same on every
// host with this acceleration.
func (d *Driver) profile() string {
	if d.info.Acceleration == vmm.TCG {
		return commonCmdline + " " + emulatedCmdline
	}
	return commonCmdline
}

func (d *Driver) cmdline() string {
	parts := []string{d.profile()}
	if d.info.Acceleration == vmm.TCG {
		// Without it about one boot in eight never ends: there is no timer to
		// calibrate against.
		parts = append(parts, fmt.Sprintf("tsc_early_khz=%d", d.tscKHz))
	}
	if d.boot.Cmdline != "" {
		parts = append(parts, d.boot.Cmdline)
	}
	return strings.Join(parts, " ")
}
