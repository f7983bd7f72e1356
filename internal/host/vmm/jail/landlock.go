package jail

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rights of Landlock, by the version of its interface that brought them
// (Linux, userspace-api/landlock.rst).
const (
	landlockExecute = unix.LANDLOCK_ACCESS_FS_EXECUTE
	landlockRead    = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	landlockWrite   = unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	landlockV1      = 1<<13 - 1 // all that is above, and making and removing of every kind
	landlockTCP     = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	landlockScopes  = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
)

// restrictFiles adds Landlock rules, a second line behind mounts and namespaces:
// files can be read and executed, of s.Binds the writable ones written, TCP,
// and signals and abstract sockets outside this process's domain are out of reach. On a kernel without
// Landlock it does nothing.
func restrictFiles(s Spec) error {
	abi, ok := LandlockVersion()
	if !ok {
		return nil
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: landlockV1}
	size := unsafe.Sizeof(attr.Handled_access_fs)
	if abi >= 2 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 4 {
		attr.Handled_access_net, size = landlockTCP, unsafe.Offsetof(attr.Scoped)
	}
	if abi >= 5 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if abi >= 6 {
		attr.Scoped, size = landlockScopes, unsafe.Offsetof(attr.Quiet_access_fs)
	}
	ruleset, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if e != 0 {
		return fmt.Errorf("create ruleset: %w", e)
	}
	defer unix.Close(int(ruleset))
	if err := allowBelow(int(ruleset), "/", landlockRead|landlockExecute); err != nil {
		return err
	}
	for _, b := range s.Binds {
		if !b.Write {
			continue
		}
		rights := uint64(landlockWrite | landlockRead&^unix.LANDLOCK_ACCESS_FS_READ_DIR)
		rights |= attr.Handled_access_fs & unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
		if err := allowBelow(int(ruleset), b.To, rights); err != nil {
			return err
		}
	}
	if _, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0); e != 0 {
		return fmt.Errorf("restrict: %w", e)
	}
	return nil
}

func allowBelow(ruleset int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, e := unix.RawSyscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if e != 0 {
		return fmt.Errorf("allow %s: %w", path, e)
	}
	return nil
}

// LandlockVersion returns the version of the kernel's Landlock interface, and
// false where it has none.
func LandlockVersion() (int, bool) {
	const version = 1 // LANDLOCK_CREATE_RULESET_VERSION
	v, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, version)
	return int(v), e == 0 && v > 0
}
