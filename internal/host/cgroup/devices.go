package cgroup

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// device is a character device that processes in a group may open.
type device struct {
	name         string
	major, minor uint32
}

// devices are the only ones that a VMM opens: its root directory has no names of
// others, see package vmm/jail. Descriptors that it inherits are not affected.
var devices = []device{
	{"/dev/null", 1, 3},
	{"/dev/kvm", 10, 232}, // linux/miscdevice.h
}

// insn is struct bpf_insn (linux/bpf.h).
type insn struct {
	code byte
	regs byte // destination in the low half, source in the high one
	off  int16
	imm  int32
}

// Fields of struct bpf_cgroup_dev_ctx, by offset, and the type of a character
// device in the low half of its first one.
const (
	contextType  = 0
	contextMajor = 4
	contextMinor = 8
	typeMask     = 0xffff
	typeChar     = 2
)

// Instructions of eBPF (RFC 9669).
const (
	opLoad     = 0x61 // destination = 32 bits at source + off
	opAnd      = 0x57 // destination &= imm
	opNotEqual = 0x55 // if destination != imm, pass over off instructions
	opMove     = 0xb7 // destination = imm
	opExit     = 0x95 // return register 0
)

// deviceProgram allows devices and nothing else.
func deviceProgram() []insn {
	const (
		result  = 0
		context = 1 << 4 // as a source
		kind    = 2
		major   = 3
		minor   = 4
	)
	program := []insn{
		{opLoad, kind | context, contextType, 0},
		{opAnd, kind, 0, typeMask},
		{opLoad, major | context, contextMajor, 0},
		{opLoad, minor | context, contextMinor, 0},
		{opMove, result, 0, 0},
		{opNotEqual, kind, int16(4 * len(devices)), typeChar},
	}
	for _, d := range devices {
		program = append(program,
			insn{opNotEqual, major, 3, int32(d.major)},
			insn{opNotEqual, minor, 2, int32(d.minor)},
			insn{opMove, result, 0, 1},
			insn{opExit, 0, 0, 0})
	}
	return append(program, insn{opExit, 0, 0, 0})
}

// restrictDevices has processes in the v2 group dir, and in all below, open no
// device but those of devices. A group further up can forbid more.
// It fails on kernels without BPF for control groups, and where the agent may not
// use that. An earlier agent's program is replaced.
func restrictDevices(dir string) error {
	group, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer group.Close()
	program, err := loadDevices()
	if err != nil {
		return err
	}
	defer unix.Close(program) // the group holds it
	attr := struct{ target, program, kind, flags uint32 }{uint32(group.Fd()), uint32(program), unix.BPF_CGROUP_DEVICE, 0}
	if _, err := bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return fmt.Errorf("attach the list of devices: %w", err)
	}
	return nil
}

// loadDevices loads deviceProgram into the kernel and returns its descriptor.
func loadDevices() (int, error) {
	program, license := deviceProgram(), []byte("GPL\x00")
	attr := struct { // the head of union bpf_attr
		kind, count           uint32
		instructions, license unsafe.Pointer
		logLevel, logSize     uint32
		log                   unsafe.Pointer
		kernelVersion, flags  uint32
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(program)),
		instructions: unsafe.Pointer(&program[0]), license: unsafe.Pointer(&license[0]),
	}
	fd, err := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err != nil {
		return -1, fmt.Errorf("load the list of devices: %w", err)
	}
	return fd, nil
}

func bpf(command uintptr, attr unsafe.Pointer, size uintptr) (int, error) {
	r, _, e := unix.Syscall(unix.SYS_BPF, command, uintptr(attr), size)
	if e != 0 {
		return -1, e
	}
	return int(r), nil
}

// restrictDevicesV1 is the same with the v1 controller (admin-guide/cgroup-v1).
func restrictDevicesV1(dir string) error {
	err := write(dir, "devices.deny", "a")
	for _, d := range devices {
		err = errors.Join(err, write(dir, "devices.allow", fmt.Sprintf("c %d:%d rw", d.major, d.minor)))
	}
	return err
}
