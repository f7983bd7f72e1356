package jail

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Resource limits of a process in the jail, beside the size of its files.
const (
	maxDescriptors = 512
	maxStackBytes  = 8 << 20
)

func setLimits(s Spec) error {
	for _, l := range []struct {
		name     string
		resource int
		value    uint64
	}{
		{"core", unix.RLIMIT_CORE, 0},
		{"fsize", unix.RLIMIT_FSIZE, s.FileBytes},
		{"nofile", unix.RLIMIT_NOFILE, maxDescriptors},
		{"memlock", unix.RLIMIT_MEMLOCK, 0},
		{"stack", unix.RLIMIT_STACK, maxStackBytes},
		{"msgqueue", unix.RLIMIT_MSGQUEUE, 0},
		{"rtprio", unix.RLIMIT_RTPRIO, 0},
		{"nice", unix.RLIMIT_NICE, 0},
	} {
		if err := setLimit(l.resource, l.value); err != nil {
			return fmt.Errorf("rlimit %s: %w", l.name, err)
		}
	}
	return nil
}

// setLimit sets both limits of a resource, or leaves a limit that is lower already. It
// does not use package syscall, which restores RLIMIT_NOFILE at an exec.
func setLimit(resource int, value uint64) error {
	var now unix.Rlimit
	if err := unix.Prlimit(0, resource, nil, &now); err != nil {
		return err
	}
	value = min(value, now.Max)
	return unix.Prlimit(0, resource, &unix.Rlimit{Cur: value, Max: value}, nil)
}

// Secure bits (capabilities(7), linux/securebits.h): user id 0 gives no
// capabilities at an exec, none can be kept or raised, and that for good.
const secureBits = 1<<0 | 1<<1 | // NOROOT, locked
	1<<5 | // KEEP_CAPS locked, off
	1<<6 | 1<<7 // NO_CAP_AMBIENT_RAISE, locked

// dropPrivileges takes every privilege from this thread, for good.
func dropPrivileges(s Spec) error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, secureBits, 0, 0, 0); err != nil {
		return fmt.Errorf("set secure bits: %w", err)
	}
	for c := uintptr(0); ; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) && c > 0 {
			break // beyond the last one
		}
		if err != nil {
			return fmt.Errorf("drop capability %d from the bounding set: %w", c, err)
		}
	}
	if err := setIDs(s); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("clear capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	return nil
}

// setIDs changes the ids of this thread alone: the others end with the exec.
func setIDs(s Spec) error {
	groups := make([]uint32, len(s.Groups)+1) // one more, for an address
	for i, g := range s.Groups {
		groups[i] = uint32(g)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(s.Groups)), uintptr(unsafe.Pointer(&groups[0])), 0); e != 0 {
		return fmt.Errorf("setgroups: %w", e)
	}
	gid, uid := uintptr(s.GID), uintptr(s.UID)
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); e != 0 {
		return fmt.Errorf("setresgid: %w", e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); e != 0 {
		return fmt.Errorf("setresuid: %w", e)
	}
	return nil
}

// closeOthers has every descriptor from 3 on that s does not keep closed by the
// exec. Until then they are this program's: its runtime polls some of them.
func closeOthers(s Spec) error {
	keep := slices.Sorted(slices.Values(s.Keep))
	next := uint(firstFile)
	for _, fd := range append(keep, int(^uint32(0)>>1)) {
		if from := next; uint(fd) > from {
			if err := unix.CloseRange(from, uint(fd)-1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
				return err
			}
		}
		next = uint(fd) + 1
	}
	return nil
}
