package features

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// processes are ways to start, observe and schedule processes.
func processes() []Feature {
	return []Feature{
		{"pidfd", "open, signal and wait", func() error {
			return withSleeper(func(p *os.Process) error {
				fd, err := unix.PidfdOpen(p.Pid, 0)
				if err != nil {
					return err
				}
				defer unix.Close(fd)
				return unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0)
			})
		}},
		{"descriptors of another process", "pidfd_getfd", func() error {
			return withSleeper(func(p *os.Process) error {
				fd, err := unix.PidfdOpen(p.Pid, 0)
				if err != nil {
					return err
				}
				defer unix.Close(fd)
				_, err = unix.PidfdGetfd(fd, 0, 0)
				return err
			})
		}},
		{"start in a control group", "clone3 with a group", func() error {
			return inGroup("", func(group string) error {
				cmd, err := joined(exec.Command("true"), group)
				if err != nil {
					return err
				}
				return cmd.Run()
			})
		}},
		{"adoption of orphans", "PR_SET_CHILD_SUBREAPER", func() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }},
		{"CPU affinity", "bind a thread to CPU 0", func() error {
			runtime.LockOSThread()
			var cpus unix.CPUSet
			cpus.Set(0)
			return unix.SchedSetaffinity(0, &cpus)
		}},
		{"real-time scheduling", "SCHED_FIFO", func() error {
			runtime.LockOSThread()
			return unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
		}},
		{"locked memory", "mlock", func() error { return unix.Mlock(make([]byte, 4096)) }},
		{"huge pages", "reserve two and write to one", hugePages},
		{"code made at run time", "run bytes that were written before", madeCode},
		{"32-bit programs", "run one", program32},
		{"userfaultfd", "open one", func() error { return errnoOf(unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)) }},
		{"restartable sequences", "register one (rseq)", func() error {
			// The C library of Debian 12 registers one for each thread, Go does not.
			area := make([]uint64, 16)
			start := (uintptr(unsafePointer(&area[0])) + 31) &^ 31
			runtime.LockOSThread()
			return errnoOf(unix.Syscall6(unix.SYS_RSEQ, start, 32, 0, 0x53053053, 0, 0))
		}},
		{"memory barriers", "membarrier", func() error {
			return errnoOf(unix.Syscall(unix.SYS_MEMBARRIER, 1, 0, 0)) // MEMBARRIER_CMD_GLOBAL
		}},
		{"core dumps", "a file of a process that aborted", coreDump},
		{"Landlock", "ask for its version", func() error {
			const version = 1
			return errnoOf(unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, version))
		}},
		{"kernel keyring", "add a key and read it", func() error {
			id, err := unix.AddKey("user", "probe", []byte("secret"), unix.KEY_SPEC_PROCESS_KEYRING)
			if err != nil {
				return err
			}
			got := make([]byte, 6)
			_, err = unix.KeyctlBuffer(unix.KEYCTL_READ, id, got, 0)
			return errors.Join(err, want(string(got) == "secret", "it has %q", got))
		}},
	}
}

func sleepLong() error { time.Sleep(time.Minute); return nil }

// withSleeper calls do with a process that waits, and ends it.
func withSleeper(do func(*os.Process) error) error {
	cmd := command("sleep", nil)
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	return do(cmd.Process)
}

func hugePages() error {
	if err := os.WriteFile("/proc/sys/vm/nr_hugepages", []byte("2"), 0); err != nil {
		return err
	}
	defer os.WriteFile("/proc/sys/vm/nr_hugepages", []byte("0"), 0)
	memory, err := unix.Mmap(-1, 0, 2<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_HUGETLB)
	if err != nil {
		return err
	}
	memory[0] = 1
	return unix.Munmap(memory)
}

func madeCode() error {
	memory, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	copy(memory, []byte{0xc3}) // ret
	code := uintptr(unsafePointer(&memory[0]))
	entry := &code
	(*(*func())(unsafePointer(&entry)))()
	return nil
}

// program32 runs an i386 program of which the only instructions are exit(42).
func program32() error {
	const base, header = 0x08048000, 52 + 32
	code := []byte{0xb8, 1, 0, 0, 0, 0xbb, 42, 0, 0, 0, 0xcd, 0x80}
	size := byte(header + len(code))
	elf := []byte{
		0x7f, 'E', 'L', 'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0, 1, 0, 0, 0,
		header, 0x80, 0x04, 0x08, 52, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 52, 0, 32, 0, 1, 0, 0, 0, 0, 0, 0, 0,
		1, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x04, 0x08, 0, 0x80, 0x04, 0x08, size, 0, 0, 0, size, 0, 0, 0, 5, 0, 0, 0, 0, 0x10, 0, 0,
	}
	return inDir(func(dir string) error {
		path := filepath.Join(dir, "program")
		if err := os.WriteFile(path, append(elf, code...), 0o755); err != nil {
			return err
		}
		err := exec.Command(path).Run()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 42 {
			return nil
		}
		return errors.Join(err, errors.New("it did not end with its exit code"))
	})
}

func coreDump() error {
	return inDir(func(dir string) error {
		if err := os.WriteFile("/proc/sys/kernel/core_pattern", []byte(dir+"/core"), 0); err != nil {
			return err
		}
		cmd := exec.Command("sh", "-c", "ulimit -c unlimited; kill -ABRT $$")
		_ = cmd.Run()
		found, err := filepath.Glob(dir + "/core*")
		return errors.Join(err, want(len(found) > 0 && strings.HasPrefix(found[0], dir), "there is no file"))
	})
}
