package features

import (
	"errors"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

func seccompFilter() error {
	if _, err := installFilter(unix.SECCOMP_RET_ERRNO|uint32(unix.ENOTTY), 0); err != nil {
		return err
	}
	_, _, err := unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
	return want(err == unix.ENOTTY, "getppid had the error %d", err)
}

// installFilter gives this thread a filter that answers getppid with action. The
// process ends with the probe.
func installFilter(action uint32, flags uintptr) (int, error) {
	runtime.LockOSThread()
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_GETPPID, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: action},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, errors.New("no_new_privs is refused")
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, err := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&filter)))
	if err != 0 {
		return 0, err
	}
	return int(fd), nil
}
