package jail

import (
	"fmt"
	"math"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rule allows one system call, in every use or in those of one of its tests.
type rule struct {
	nr    uint32
	tests []test // any of them; none is every use
}

// test holds if argument arg, after and with mask, equals want.
type test struct {
	arg        int
	mask, want uint64
}

const everyBit = math.MaxUint64

func is(arg int, want uint64) test { return test{arg, everyBit, want} }

// Outcomes of a system call outside the allow-list. One that is not on it does
// not exist, so that libraries use another; a use that no test allows is not
// permitted; a foreign calling convention ends the process.
const (
	retAllow     = unix.SECCOMP_RET_ALLOW
	retUnknown   = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	retForbidden = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	retKill      = unix.SECCOMP_RET_KILL_PROCESS
)

// Offsets in struct seccomp_data (seccomp(2)).
const (
	dataNumber = 0
	dataArch   = 4
	dataArgs   = 16
)

// Instructions of classic BPF (Linux, networking/filter.rst).
const (
	bpfLoad  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	bpfAnd   = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	bpfEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	bpfAbove = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	bpfRet   = unix.BPF_RET | unix.BPF_K
)

// assemble turns rules into a seccomp filter.
func assemble(rules []rule) []unix.SockFilter {
	filter := []unix.SockFilter{
		{Code: bpfLoad, K: dataArch},
		{Code: bpfEqual, K: auditArch, Jt: 1},
		{Code: bpfRet, K: retKill},
		{Code: bpfLoad, K: dataNumber},
		{Code: bpfAbove, K: foreignNumbers, Jf: 1},
		{Code: bpfRet, K: retKill},
	}
	for _, r := range rules {
		body := []unix.SockFilter{{Code: bpfRet, K: retAllow}}
		if len(r.tests) > 0 {
			body = nil
			for _, t := range r.tests {
				body = append(body, t.assemble()...)
			}
			body = append(body, unix.SockFilter{Code: bpfRet, K: retForbidden})
		}
		// Conditional jumps reach 255 instructions: no rule is that long, see
		// TestFilterJumps.
		filter = append(filter, unix.SockFilter{Code: bpfEqual, K: r.nr, Jf: uint8(len(body))})
		filter = append(filter, body...)
	}
	return append(filter, unix.SockFilter{Code: bpfRet, K: retUnknown})
}

// assemble compares both halves of the argument, and allows or continues behind.
func (t test) assemble() []unix.SockFilter {
	low := uint32(dataArgs + 8*t.arg)
	return []unix.SockFilter{
		{Code: bpfLoad, K: low},
		{Code: bpfAnd, K: uint32(t.mask)},
		{Code: bpfEqual, K: uint32(t.want), Jf: 4},
		{Code: bpfLoad, K: low + 4},
		{Code: bpfAnd, K: uint32(t.mask >> 32)},
		{Code: bpfEqual, K: uint32(t.want >> 32), Jf: 1},
		{Code: bpfRet, K: retAllow},
	}
}

// installFilter puts the allow-list on this thread, which has no_new_privs. The
// one program that it may still execute is p.
func installFilter(s Spec, p program) error {
	address := uint64(uintptr(unsafe.Pointer(p.path)))
	filter := assemble(append(allowed(s.KVM), rule{unix.SYS_EXECVE, []test{is(0, address)}}))
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	if e != 0 {
		return fmt.Errorf("install filter: %w", e)
	}
	return nil
}
