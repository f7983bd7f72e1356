//lint:file-ignore U1000 the structs are the kernel's ABI: every field is there for its place

package kvmprobe

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Request numbers of linux/kvm.h, x86-64.
const (
	kvmGetAPIVersion       = 0xae00
	kvmCreateVM            = 0xae01
	kvmCheckExtension      = 0xae03
	kvmGetVCPUMmapSize     = 0xae04
	kvmGetSupportedCPUID   = 0xc008ae05
	kvmCreateVCPU          = 0xae41
	kvmSetUserMemoryRegion = 0x4020ae46
	kvmSetTSSAddr          = 0xae47
	kvmRun                 = 0xae80
	kvmSetRegs             = 0x4090ae82
	kvmGetSregs            = 0x8138ae83
	kvmSetSregs            = 0x4138ae84
	kvmSetCPUID2           = 0x4008ae90
	kvmGetTSCKHz           = 0xaea3
)

// The exit reasons used, and the places of their data in struct kvm_run.
const (
	exitIO  = 2
	exitHLT = 5

	runExitReason = 8  // u32
	runIOPort     = 34 // u16
	runIOOffset   = 40 // u64, from the start of struct kvm_run
)

// requiredCaps are the extensions that QEMU and Firecracker between them
// refuse to work without, by number (linux/kvm.h).
var requiredCaps = []struct {
	name   string
	number uintptr
}{
	{"IRQCHIP", 0}, {"USER_MEMORY", 3}, {"SET_TSS_ADDR", 4}, {"EXT_CPUID", 7}, {"MP_STATE", 14},
	{"IRQFD", 32}, {"PIT2", 33}, {"PIT_STATE2", 35}, {"IOEVENTFD", 36}, {"ADJUST_CLOCK", 39},
	{"VCPU_EVENTS", 41}, {"DEBUGREGS", 50}, {"XSAVE", 55}, {"XCRS", 56},
}

type memoryRegion struct {
	slot, flags     uint32
	guestPhys, size uint64
	userspaceAddr   uintptr
}

type segment struct {
	base                                           uint64
	limit                                          uint32
	selector                                       uint16
	kind, present, dpl, db, s, l, g, avl, unusable uint8
	_                                              uint8
}

type descTable struct {
	base  uint64
	limit uint16
	_     [3]uint16
}

type sregs struct {
	cs, ds, es, fs, gs, ss, tr, ldt     segment
	gdt, idt                            descTable
	cr0, cr2, cr3, cr4, cr8, efer, apic uint64
	interrupts                          [4]uint64
}

type regs struct {
	rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp uint64
	r8to15                                 [8]uint64
	rip, rflags                            uint64
}

type cpuidEntry struct {
	function, index, flags uint32
	eax, ebx, ecx, edx     uint32
	_                      [3]uint32
}

type cpuidTable struct {
	count, _ uint32
	entries  [256]cpuidEntry
}

// number calls an ioctl whose argument is a number and returns its result.
func number(fd int, request, arg uintptr) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, arg)
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}

// pointer calls an ioctl that reads or fills *arg.
func pointer[T any](fd int, request uintptr, arg *T) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(arg)))
	runtime.KeepAlive(arg)
	if errno != 0 {
		return errno
	}
	return nil
}
