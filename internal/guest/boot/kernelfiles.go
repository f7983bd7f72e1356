package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// kernelFiles names the file systems in which Init and the agent control users.
//
// Root in the guest may mount anything over /proc and /sys/fs/cgroup. Init therefore
// makes a mount of each that is part of no mount namespace: no path of users leads to
// it, and nothing can be mounted over it. The proc mount is the working directory of
// Init and of each agent. The cgroup mount is a descriptor that they share, and
// /proc/self/fd, seen from the working directory, leads to it.
type kernelFiles struct {
	proc   string // the directory of the proc file system
	cgroup string // the root of the cgroup v2 hierarchy
}

// inherited are the kernelFiles of an agent that Init has started.
var inherited = kernelFiles{proc: ".", cgroup: procFD(CgroupFD)}

// procFD returns the path of a descriptor of this process, from the working directory.
func procFD(fd int) string { return "self/fd/" + strconv.Itoa(fd) }

// users returns the cgroup that holds one for each command.
func (k kernelFiles) users() string { return filepath.Join(k.cgroup, "user") }

// agent returns the cgroup of the agent.
func (k kernelFiles) agent() string { return filepath.Join(k.cgroup, "agent") }

// process returns the path of a file about a process.
func (k kernelFiles) process(pid int, name string) string {
	return filepath.Join(k.proc, strconv.Itoa(pid), name)
}

// hideKernelFiles changes the working directory to a hidden proc mount and returns the
// kernelFiles of Init, with the directory to which agents get a descriptor.
func hideKernelFiles() (files kernelFiles, cgroup *os.File, err error) {
	proc, err := hiddenMount("/proc")
	if err != nil {
		return kernelFiles{}, nil, err
	}
	defer proc.Close()
	if cgroup, err = hiddenMount(cgroupRoot); err != nil {
		return kernelFiles{}, nil, err
	}
	if err := proc.Chdir(); err != nil {
		return kernelFiles{}, nil, fmt.Errorf("enter the hidden /proc: %w", err)
	}
	return kernelFiles{proc: ".", cgroup: procFD(int(cgroup.Fd()))}, cgroup, nil
}

// hiddenMount mounts the file system at path a second time, without those mounted
// below it, and takes that mount out of the mount namespace. It exists until the
// directory that is returned is closed and no process works in it.
func hiddenMount(path string) (root *os.File, err error) {
	at, err := os.MkdirTemp("/run", "wrenn-kernel-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(at)
	if err := unix.Mount(path, at, "", unix.MS_BIND, ""); err != nil {
		return nil, fmt.Errorf("mount %s again: %w", path, err)
	}
	root, err = os.Open(at)
	if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
		return nil, fmt.Errorf("hide the second mount of %s: %w", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open the second mount of %s: %w", path, err)
	}
	return root, nil
}
