package jail

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// exitFailed is the exit status of a launcher that could not confine or execute.
const exitFailed = 125

// Main is the launcher. It must have been started by this package. Its only
// argument is a Spec, or argMounts. It does not return: the process becomes the
// one of the Spec, or reports the failure on standard error and exits.
func Main() {
	// Credentials, the filter and execve(2) are matters of one thread.
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	err := launch(os.Args[1:])
	if err == nil {
		os.Exit(0)
	}
	fmt.Fprintln(os.Stderr, "wrenn-jail:", err)
	os.Exit(exitFailed)
}

// argMounts, in the place of a Spec, has the launcher make the empty mount
// namespace.
const argMounts = "mounts"

func launch(args []string) error {
	var s Spec
	if len(args) != 1 {
		return fmt.Errorf("want one argument, not %d: this program is for wrenn itself", len(args))
	}
	if args[0] == argMounts {
		return makeMounts()
	}
	if err := json.Unmarshal([]byte(args[0]), &s); err != nil {
		return fmt.Errorf("read specification: %w", err)
	}
	program, err := newProgram(s)
	if err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		do   func(Spec) error
	}{
		{"leave the agent's session", leaveSession},
		{"make the root directory", enterRoot},
		{"set limits", setLimits},
		{"drop privileges", dropPrivileges},
		{"restrict files", restrictFiles},
		{"close descriptors", closeOthers},
		{"filter system calls", func(s Spec) error { return installFilter(s, program) }},
	} {
		if err := step.do(s); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return fmt.Errorf("execute %s: %w", s.Path, program.exec())
}

// program is the program to execute, in the form that the kernel takes.
type program struct {
	path      *byte
	argv, env []*byte
}

func newProgram(s Spec) (program, error) {
	path, err1 := unix.BytePtrFromString(s.Path)
	argv, err2 := syscall.SlicePtrFromStrings(s.Argv)
	env, err3 := syscall.SlicePtrFromStrings(s.Env)
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			return program{}, err
		}
	}
	return program{path: path, argv: argv, env: env}, nil
}

// exec replaces this process. The filter allows that for this path's address
// only, which the new program has nothing at.
func (p program) exec() error {
	_, _, errno := unix.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(p.path)),
		uintptr(unsafe.Pointer(unsafe.SliceData(p.argv))), uintptr(unsafe.Pointer(unsafe.SliceData(p.env))))
	runtime.KeepAlive(p)
	return errno
}

// leaveSession separates the process from the parts of the agent's session that are
// not namespaces: its keyring and its view of the cgroups.
func leaveSession(Spec) error {
	if _, _, e := unix.RawSyscall(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0); e != 0 && e != unix.ENOSYS {
		return fmt.Errorf("new session keyring: %w", e)
	}
	// A core that is piped to a program knows no size: leave all memory out.
	_ = os.WriteFile("/proc/self/coredump_filter", []byte("0"), 0) // best effort: the limit on core files decides
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("new cgroup namespace: %w", err)
	}
	// A VM must not see the host's name.
	return unix.Sethostname([]byte("wrenn"))
}
