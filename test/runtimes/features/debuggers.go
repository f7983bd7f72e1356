package features

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// debuggers are the interfaces of strace, gdb, perf and bpftrace.
func debuggers() []Feature {
	return []Feature{
		{"attach to a process (ptrace)", "attach, read registers and detach, as gdb does", func() error { return withSleeper(attach) }},
		{"trace system calls (ptrace)", "stop at a call of a child, as strace does", func() error { return traced(nextCall) }},
		{"single steps (ptrace)", "one instruction of a child", func() error { return traced(oneStep) }},
		{"breakpoints (ptrace)", "write an int3 and stop there", func() error { return traced(breakpoint) }},
		{"memory of another process", "process_vm_readv", func() error { return withSleeper(readMemory) }},
		{"performance counters", "perf_event_open of the CPU clock", func() error {
			attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Size: 112}
			fd, err := unix.PerfEventOpen(&attr, 0, -1, -1, 0)
			return errors.Join(err, unix.Close(max(fd, 0)))
		}},
		{"eBPF maps", "make an array", func() error {
			attr := make([]byte, 72)
			binary.NativeEndian.PutUint32(attr, unix.BPF_MAP_TYPE_ARRAY)
			for i, n := range []uint32{4, 8, 1} { // sizes of keys and values, number of entries
				binary.NativeEndian.PutUint32(attr[4+4*i:], n)
			}
			return errnoOf(unix.Syscall(unix.SYS_BPF, unix.BPF_MAP_CREATE, uintptr(unsafePointer(&attr[0])), uintptr(len(attr))))
		}},
		{"eBPF programs", "load a socket filter", loadProgram},
	}
}

func attach(p *os.Process) error {
	runtime.LockOSThread()
	if err := unix.PtraceAttach(p.Pid); err != nil {
		return err
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(p.Pid, &status, unix.WALL, nil); err != nil {
		return err
	}
	var registers unix.PtraceRegs
	return errors.Join(unix.PtraceGetRegs(p.Pid, &registers), want(registers.Rip != 0, "the registers are empty"), unix.PtraceDetach(p.Pid))
}

// traced calls do with a child that has stopped at its first instruction.
func traced(do func(pid int) error) error {
	runtime.LockOSThread()
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	var status unix.WaitStatus
	if _, err := unix.Wait4(cmd.Process.Pid, &status, 0, nil); err != nil {
		return err
	}
	if !status.Stopped() {
		return errors.New("the child did not stop")
	}
	return do(cmd.Process.Pid)
}

// stopsWith waits for the child and wants it stopped by signal.
func stopsWith(pid int, signal unix.Signal) error {
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
		return err
	}
	return want(status.Stopped() && status.StopSignal() == signal, "the child did not stop there")
}

func nextCall(pid int) error {
	if err := unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACESYSGOOD); err != nil {
		return err
	}
	if err := unix.PtraceSyscall(pid, 0); err != nil {
		return err
	}
	return stopsWith(pid, unix.SIGTRAP|0x80)
}

func oneStep(pid int) error {
	if err := unix.PtraceSingleStep(pid); err != nil {
		return err
	}
	return stopsWith(pid, unix.SIGTRAP)
}

func breakpoint(pid int) error {
	var registers unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &registers); err != nil {
		return err
	}
	if _, err := unix.PtracePokeData(pid, uintptr(registers.Rip), []byte{0xcc}); err != nil {
		return err
	}
	if err := unix.PtraceCont(pid, 0); err != nil {
		return err
	}
	if err := stopsWith(pid, unix.SIGTRAP); err != nil {
		return err
	}
	start := registers.Rip
	err := unix.PtraceGetRegs(pid, &registers)
	return errors.Join(err, want(registers.Rip == start+1, "the child stopped elsewhere"))
}

// readMemory reads the first bytes of a process's program. The process may still be
// about to start it.
func readMemory(p *os.Process) (err error) {
	otherwise := soon("it has other bytes", func() bool {
		var maps []byte
		if maps, err = os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.Pid)); err != nil {
			return true
		}
		start, ok := programStart(string(maps))
		if !ok {
			return false
		}
		got := make([]byte, 4)
		local := unix.Iovec{Base: &got[0], Len: 4}
		_, err = unix.ProcessVMReadv(p.Pid, []unix.Iovec{local}, []unix.RemoteIovec{{Base: start, Len: 4}}, 0)
		return string(got) == "\x7fELF" || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM)
	})
	return errors.Join(err, otherwise)
}

// programStart finds the start of the own program among the mappings of a process.
// Below it may lie one of the kernel's.
func programStart(maps string) (start uintptr, ok bool) {
	own, err := os.Executable()
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(maps) {
		if strings.HasSuffix(strings.TrimSpace(line), own) {
			n, _ := fmt.Sscanf(line, "%x-", &start)
			return start, n == 1
		}
	}
	return 0, false
}

// loadProgram loads the program "return 0".
func loadProgram() error {
	code := []uint64{0xb7, 0x95} // mov64 r0, 0; exit
	license := []byte("GPL\x00")
	attr := make([]byte, 72)
	binary.NativeEndian.PutUint32(attr, unix.BPF_PROG_TYPE_SOCKET_FILTER)
	binary.NativeEndian.PutUint32(attr[4:], uint32(len(code)))
	binary.NativeEndian.PutUint64(attr[8:], uint64(uintptr(unsafePointer(&code[0]))))
	binary.NativeEndian.PutUint64(attr[16:], uint64(uintptr(unsafePointer(&license[0]))))
	err := errnoOf(unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafePointer(&attr[0])), uintptr(len(attr))))
	runtime.KeepAlive(code)
	runtime.KeepAlive(license)
	return err
}
