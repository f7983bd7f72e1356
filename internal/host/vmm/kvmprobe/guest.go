package kvmprobe

import (
	"encoding/binary"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Where things are in the guest's one megabyte of memory.
const (
	guestMemory = 1 << 20
	codeAt      = 0x1000
	pml4At      = 0x2000
	pdptAt      = 0x3000
	pageDirAt   = 0x4000
	tssAt       = 0xfffbd000 // outside memory; Intel processors need three pages of their own
)

// The answer the guest must send: AL + BL to the first serial port.
const (
	serialPort = 0x3f8
	leftHalf   = 2
	rightHalf  = 40
)

// guest is a VM with one virtual CPU and no operating system. close frees it.
type guest struct {
	vm, vcpu    int
	memory, run []byte
	start       sregs
}

// newGuest makes the VM up to the point where code could run. dev is an open
// /dev/kvm.
func newGuest(dev int, cpuid *cpuidTable) (_ *guest, err error) {
	g := &guest{vm: -1, vcpu: -1}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	if g.vm, err = number(dev, kvmCreateVM, 0); err != nil {
		g.vm = -1
		return nil, fmt.Errorf("a VM cannot be created: %w", err)
	}
	if _, err = number(g.vm, kvmSetTSSAddr, tssAt); err != nil {
		return nil, fmt.Errorf("KVM_SET_TSS_ADDR: %w", err)
	}
	if g.memory, err = unix.Mmap(-1, 0, guestMemory, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS); err != nil {
		return nil, fmt.Errorf("guest memory: %w", err)
	}
	region := memoryRegion{size: guestMemory, userspaceAddr: uintptr(unsafe.Pointer(&g.memory[0]))}
	if err = pointer(g.vm, kvmSetUserMemoryRegion, &region); err != nil {
		return nil, fmt.Errorf("KVM_SET_USER_MEMORY_REGION: %w", err)
	}
	if g.vcpu, err = number(g.vm, kvmCreateVCPU, 0); err != nil {
		g.vcpu = -1
		return nil, fmt.Errorf("a virtual CPU cannot be created: %w", err)
	}
	size, err := number(dev, kvmGetVCPUMmapSize, 0)
	if err != nil {
		return nil, fmt.Errorf("KVM_GET_VCPU_MMAP_SIZE: %w", err)
	}
	if g.run, err = unix.Mmap(g.vcpu, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("struct kvm_run: %w", err)
	}
	// Without long mode in its CPUID the CPU refuses EFER.LMA.
	if err = pointer(g.vcpu, kvmSetCPUID2, cpuid); err != nil {
		return nil, fmt.Errorf("KVM_SET_CPUID2: %w", err)
	}
	return g, g.longMode()
}

// longMode writes page tables that map the first 2 MiB onto themselves and
// keeps the registers of a CPU that runs 64-bit code at privilege level 0.
func (g *guest) longMode() error {
	const presentWritable, hugePage = 3, 0x80
	binary.LittleEndian.PutUint64(g.memory[pml4At:], pdptAt|presentWritable)
	binary.LittleEndian.PutUint64(g.memory[pdptAt:], pageDirAt|presentWritable)
	binary.LittleEndian.PutUint64(g.memory[pageDirAt:], presentWritable|hugePage)
	if err := pointer(g.vcpu, kvmGetSregs, &g.start); err != nil {
		return fmt.Errorf("KVM_GET_SREGS: %w", err)
	}
	code := segment{limit: 0xffffffff, selector: 8, kind: 11, present: 1, s: 1, l: 1, g: 1}
	data := segment{limit: 0xffffffff, selector: 16, kind: 3, present: 1, s: 1, db: 1, g: 1}
	s := &g.start
	s.cs = code
	s.ds, s.es, s.fs, s.gs, s.ss = data, data, data, data, data
	s.cr0 = 0x80050033 // PG AM WP NE ET MP PE
	s.cr3 = pml4At
	s.cr4 = 0x20   // PAE
	s.efer = 0x500 // LME LMA
	return nil
}

// timeLoop runs count turns of a two-instruction loop, then checks that the
// guest can add and halt. It returns how long that took.
func (g *guest) timeLoop(count uint32) (time.Duration, error) {
	program := []byte{0xb9, 0, 0, 0, 0} // mov ecx, count
	binary.LittleEndian.PutUint32(program[1:], count)
	program = append(program,
		0xff, 0xc9, // dec ecx
		0x75, 0xfc, // jnz -4
		0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0x00, 0xd8, // add al, bl
		0xee, // out dx, al
		0xf4, // hlt
	)
	copy(g.memory[codeAt:], program)
	if err := pointer(g.vcpu, kvmSetSregs, &g.start); err != nil {
		return 0, fmt.Errorf("KVM_SET_SREGS: %w", err)
	}
	r := regs{rax: leftHalf, rbx: rightHalf, rip: codeAt, rflags: 2}
	if err := pointer(g.vcpu, kvmSetRegs, &r); err != nil {
		return 0, fmt.Errorf("KVM_SET_REGS: %w", err)
	}
	began := time.Now()
	if err := g.enter(); err != nil {
		return 0, err
	}
	reason := binary.LittleEndian.Uint32(g.run[runExitReason:])
	if reason != exitIO || binary.LittleEndian.Uint16(g.run[runIOPort:]) != serialPort {
		return 0, fmt.Errorf("the guest stopped for reason %d instead of an output", reason)
	}
	if at := binary.LittleEndian.Uint64(g.run[runIOOffset:]); at >= uint64(len(g.run)) || g.run[at] != leftHalf+rightHalf {
		return 0, fmt.Errorf("the guest computed a wrong sum")
	}
	if err := g.enter(); err != nil {
		return 0, err
	}
	if reason := binary.LittleEndian.Uint32(g.run[runExitReason:]); reason != exitHLT {
		return 0, fmt.Errorf("the guest stopped for reason %d instead of a halt", reason)
	}
	return time.Since(began), nil
}

// enter runs the guest to its next exit. After a signal it enters again.
func (g *guest) enter() error {
	for {
		if _, err := number(g.vcpu, kvmRun, 0); err == nil {
			return nil
		} else if err != unix.EINTR {
			return fmt.Errorf("KVM_RUN: %w", err)
		}
	}
}

func (g *guest) close() {
	if g.run != nil {
		_ = unix.Munmap(g.run)
	}
	for _, fd := range []int{g.vcpu, g.vm} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	if g.memory != nil {
		_ = unix.Munmap(g.memory)
	}
}
