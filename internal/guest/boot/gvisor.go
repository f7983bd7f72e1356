package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// The environment variables in which the host tells Init the sizes of the sandbox.
const (
	// MemoryEnv is the memory in MiB.
	MemoryEnv = "WRENN_MEMORY_MB"
	// CPUsEnv is the number of CPUs. The kernel may have more.
	CPUsEnv = "WRENN_VCPUS"
)

// tasksEnv is the environment variable in which the host tells Init how many
// processes and threads users may have. With more, the sandbox would reach the host's
// limit and end.
const tasksEnv = "WRENN_TASKS"

// RunGVisor is Run in a gVisor sandbox, whose runtime has already mounted the
// root, the kernel's file systems and the devices, and has set up the network.
// The sandbox ends with the calling process, which must exit when RunGVisor
// returns.
func RunGVisor(agentArgs ...string) error {
	i := &Init{backoff: restartFirst, console: os.Stderr}
	err := i.bootGVisor()
	if err == nil {
		err = i.supervise(agentArgs)
	}
	if err != nil {
		i.say("boot failed: %v", err)
	}
	i.endUsers()
	unix.Sync()
	return err
}

// bootGVisor does everything before the agent.
func (i *Init) bootGVisor() (err error) {
	unix.Umask(0o022)
	if err := limitOpenFiles(); err != nil {
		return err
	}
	memory, err := givenMemory()
	if err != nil {
		return err
	}
	cpus, err := strconv.Atoi(os.Getenv(CPUsEnv))
	if err != nil {
		return fmt.Errorf("read the number of CPUs from %s: %w", CPUsEnv, err)
	}
	i.env = []string{MemoryEnv + "=" + os.Getenv(MemoryEnv)}
	if i.disk, err = os.Open("/"); err != nil {
		return fmt.Errorf("open the root: %w", err)
	}
	if err := mountInSandbox(memory); err != nil {
		return err
	}
	if err := limitCPUs(cpus); err != nil {
		return err
	}
	if err := setUpCgroups(memory); err != nil {
		return err
	}
	if err := limitTasks(); err != nil {
		return err
	}
	if err := i.hideKernel(); err != nil {
		return err
	}
	if err := i.setUpHolder(); err != nil {
		return err
	}
	return i.makeShared()
}

// init keeps the main goroutine of Init on the first thread of the process, where the
// Go runtime runs package initialization. The kernel makes that thread the parent of
// orphans, and so the tracer of those that ask to be traced (PTRACE_TRACEME). No other
// thread could continue them.
func init() {
	if os.Getpid() == 1 {
		runtime.LockOSThread()
	}
}

// setUpHolder makes the calling goroutine, which must be the main one, the one from which
// user processes are held.
func (i *Init) setUpHolder() error {
	if unix.Gettid() != 1 {
		return errors.New("Init does not run on its first thread")
	}
	i.asked = make(chan holdRequest)
	exempt := func(pid int) bool { return pid == unix.Getpid() || pid == i.agent }
	i.holder = newHolder(i.files.proc, i.reap, exempt)
	return nil
}

// givenMemory returns the size of the sandbox's memory, in bytes, as the host has
// given it.
func givenMemory() (uint64, error) {
	megabytes, err := strconv.ParseUint(os.Getenv(MemoryEnv), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("read the size of the memory from %s: %w", MemoryEnv, err)
	}
	return megabytes << 20, nil
}

// mountInSandbox mounts the file systems that the runtime has not mounted. Those in
// memory together leave a part of it.
func mountInSandbox(memory uint64) error {
	// The runtime covers an empty /tmp with a file system in memory without a
	// limit. The directory below it is on the disk and counts against its size.
	if err := unix.Unmount("/tmp", 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("uncover /tmp: %w", err)
	}
	if err := replaceDevices(); err != nil {
		return fmt.Errorf("replace /dev: %w", err)
	}
	err := mountAll([]mount{
		// Without a mode, which the runtime gives to the directory.
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,ptmxmode=0666"},
		{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777,size=" + strconv.FormatUint(memory/2, 10)},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755,size=" + strconv.FormatUint(memory/8, 10)},
		{"cgroup2", cgroupRoot, "cgroup2", noExec, ""},
	})
	if err != nil {
		return err
	}
	return makeUsualPaths()
}

// limitTasks bounds the processes and threads of users, which gVisor does not do by
// itself.
func limitTasks() error {
	limit, err := strconv.ParseUint(os.Getenv(tasksEnv), 10, 32)
	if err != nil {
		return fmt.Errorf("read the number of processes from %s: %w", tasksEnv, err)
	}
	if err := os.WriteFile(filepath.Join(UserCgroup, "pids.max"), []byte(strconv.FormatUint(limit, 10)), 0); err != nil {
		return fmt.Errorf("limit users' processes: %w", err)
	}
	return nil
}
