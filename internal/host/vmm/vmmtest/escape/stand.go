package escape

import (
	"fmt"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/linux/proc"
)

// Stand is the part of the confinement that a player takes on itself, on the thread of
// each attempt, because no program could be started with it. The zero Stand is
// nothing: the player was started confined.
type Stand struct {
	// Capabilities are those that the thread keeps, as bits, if Confine is set. It
	// cannot gain others afterwards.
	Confine      bool
	Capabilities uint64
	// Limits are limits of resources (setrlimit(2)) by their number. They are of the
	// whole player.
	Limits map[int]unix.Rlimit
	// Filter is a program for system calls (seccomp(2)), or nil.
	Filter []unix.SockFilter
}

// limit takes the limits of resources.
func (s Stand) limit() error {
	for resource, limit := range s.Limits {
		if err := unix.Prlimit(0, resource, &limit, nil); err != nil {
			return fmt.Errorf("limit of resource %d: %w", resource, err)
		}
	}
	return nil
}

// take confines the calling thread.
func (s Stand) take() error {
	if !s.Confine {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if s.Capabilities>>c&1 == 0 {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && err != unix.EINVAL {
				return fmt.Errorf("drop capability %d: %w", c, err)
			}
		}
	}
	low, high := uint32(s.Capabilities), uint32(s.Capabilities>>32)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: low, Permitted: low}, {Effective: high, Permitted: high}}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	if s.Filter == nil {
		return nil
	}
	program := unix.SockFprog{Len: uint16(len(s.Filter)), Filter: &s.Filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(&program)
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}

// resources is the number of resources that have a limit (getrlimit(2)).
const resources = 16

// StandOf returns the capabilities and the limits of a process, without a filter.
func StandOf(pid int) (Stand, error) {
	s := Stand{Confine: true, Limits: make(map[int]unix.Rlimit)}
	for resource := range resources {
		var limit unix.Rlimit
		if err := unix.Prlimit(pid, resource, nil, &limit); err != nil {
			return s, err
		}
		s.Limits[resource] = limit
	}
	permitted, err := proc.ReadStatus(pid, "CapPrm")
	if err != nil {
		return s, err
	}
	s.Capabilities, err = strconv.ParseUint(permitted[0], 16, 64)
	return s, err
}

// FilterOf returns the newest filter of system calls of a process, which it stops for
// the moment (PTRACE_SECCOMP_GET_FILTER in ptrace(2)). The caller is root.
func FilterOf(pid int) ([]unix.SockFilter, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.PtraceAttach(pid); err != nil {
		return nil, fmt.Errorf("attach to %d: %w", pid, err)
	}
	defer unix.PtraceDetach(pid)
	if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err != nil {
		return nil, fmt.Errorf("wait for %d to stop: %w", pid, err)
	}
	const getFilter = 0x420c
	n, _, errno := unix.Syscall6(unix.SYS_PTRACE, getFilter, uintptr(pid), 0, 0, 0, 0)
	if errno != 0 {
		return nil, fmt.Errorf("length of the filter: %w", errno)
	}
	filter := make([]unix.SockFilter, n)
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, getFilter, uintptr(pid), 0, uintptr(unsafe.Pointer(&filter[0])), 0, 0); errno != 0 {
		return nil, fmt.Errorf("read the filter: %w", errno)
	}
	return filter, nil
}
