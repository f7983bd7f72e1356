package escape

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attempt is one way out. It returns nil if it has worked.
type attempt struct {
	name string
	try  func(w World) error
}

// call makes a system call and returns its error.
func call(nr uintptr, args ...uintptr) error {
	_, err := value(nr, args...)
	return err
}

// value makes a system call and closes the descriptor that comes of it.
func value(nr uintptr, args ...uintptr) (uintptr, error) {
	var a [6]uintptr
	copy(a[:], args)
	r, _, e := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
	if e != 0 {
		return 0, e
	}
	return r, nil
}

// descriptor makes a system call that returns one, and closes that.
func descriptor(nr uintptr, args ...uintptr) error {
	fd, err := value(nr, args...)
	if err == nil {
		err = unix.Close(int(fd))
	}
	return err
}

func str(s string) uintptr {
	p, err := unix.BytePtrFromString(s)
	if err != nil {
		panic(err)
	}
	return uintptr(unsafe.Pointer(p))
}

func open(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o600)
	if err == nil {
		err = unix.Close(fd)
	}
	return err
}

func read(path func(w World) string) func(World) error {
	return func(w World) error {
		data, err := os.ReadFile(path(w))
		if err == nil && len(data) == 0 {
			err = errors.New("nothing there")
		}
		return err
	}
}

func at(path string) func(World) string    { return func(World) string { return path } }
func named(name string) func(World) string { return func(w World) string { return w.file(name) } }

func writable(path func(w World) string) func(World) error {
	return func(w World) error { return open(path(w), unix.O_RDWR) }
}

func create(path func(w World) string) func(World) error {
	return func(w World) error {
		err := open(path(w), unix.O_CREAT|unix.O_WRONLY)
		if err == nil {
			err = os.Remove(path(w))
		}
		return err
	}
}

func list(path string, want string) func(World) error {
	return func(World) error {
		entries, err := os.ReadDir(path)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Name() == want {
				return nil
			}
		}
		return fmt.Errorf("%s has no %s", path, want)
	}
}

func connect(family int, address func(w World) unix.Sockaddr) func(World) error {
	return func(w World) error {
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Connect(fd, address(w))
	}
}

func socket(family, kind, protocol int) func(World) error {
	return func(World) error {
		return descriptor(unix.SYS_SOCKET, uintptr(family), uintptr(kind|unix.SOCK_CLOEXEC), uintptr(protocol))
	}
}

func victims(name string) func(World) string {
	return func(w World) string { return fmt.Sprintf("/proc/%d/%s", w.VictimPID, name) }
}

// spawn starts this program once more, as "victim", which ends at once.
func spawn(flags uintptr) func(World) error {
	return func(World) error {
		null, err := os.Open("/dev/null")
		if err != nil {
			return err
		}
		defer null.Close()
		pid, err := syscall.ForkExec("/proc/self/exe", []string{"victim"}, &syscall.ProcAttr{
			Files: []uintptr{null.Fd(), null.Fd(), null.Fd()}, Sys: &syscall.SysProcAttr{Cloneflags: flags},
		})
		if err == nil {
			_, err = syscall.Wait4(pid, nil, 0, nil)
		}
		return err
	}
}

func makeNode(mode uint32, device uint64) func(World) error {
	return func(w World) error {
		for _, path := range []string{w.file("node"), "/node", "/dev/node"} {
			if err := unix.Mknod(path, mode|0o600, int(device)); err == nil {
				return os.Remove(path)
			} else if path == "/dev/node" {
				return err
			}
		}
		return nil
	}
}

var attempts = []attempt{
	// Files of the host and of other sandboxes.
	{"another sandbox's disk", read(named("other-disk"))},
	{"another sandbox's snapshot memory", read(named("other-memory"))},
	{"its own memory by the host's name", read(func(w World) string { return w.Memory })},
	{"the journal", read(named("record.json"))},
	{"a manifest", read(named("manifest.json"))},
	{"a file that anybody may read", read(named("public"))},
	{"a file that anybody may write", writable(named("public"))},
	{"its own base, to write", func(w World) error {
		if err := open("/memory", unix.O_RDWR); err == nil {
			return nil
		}
		return open(w.Memory, unix.O_RDWR)
	}},
	{"its own base, to truncate", func(w World) error {
		if err := unix.Truncate("/memory", 1); err == nil {
			return nil
		}
		return unix.Truncate(w.file("public"), int64(len(secret)))
	}},
	{"the list of sandboxes", func(w World) error { _, err := os.ReadDir(w.Dir); return err }},
	{"passwords", read(at("/etc/shadow"))},
	{"users", read(at("/etc/passwd"))},
	{"the host's root directory", list("/", "usr")},
	{"the host's programs", list("/usr/bin", "env")},
	{"the parent of the root directory", list("/../..", "usr")},
	{"a new file in the root directory", create(at("/new"))},
	{"a new file in /tmp", create(at("/tmp/wrenn-escape-new"))},
	{"a new file in shared memory", create(at("/dev/shm/wrenn-escape-new"))},
	{"a new file among the libraries", func(w World) error {
		if err := open("/program/new", unix.O_CREAT|unix.O_WRONLY); err == nil {
			return nil
		}
		return create(named("new"))(w)
	}},
	{"a changed program", func(w World) error {
		if err := unix.Chmod("/program", 0o777); err == nil {
			return nil
		}
		return unix.Chmod(w.file("public"), 0o666)
	}},
	{"a disk that belongs to somebody else", func(w World) error { return unix.Fchown(w.Disk, w.UID, w.UID) }},
	{"a disk beyond its size", func(w World) error { _, err := unix.Pwrite(w.Disk, []byte("x"), 1<<30); return err }},
	{"the descriptors of the agent", func(w World) error {
		if w.Leaked == 0 {
			return errors.New("unknown number")
		}
		data := make([]byte, len(secret))
		if n, err := unix.Pread(w.Leaked, data, 0); err != nil || string(data[:n]) != secret {
			return errors.Join(errors.New("it is another file"), err)
		}
		return nil
	}},
	{"a file by its handle", func(w World) error {
		handle, mount, err := unix.NameToHandleAt(unix.AT_FDCWD, w.file("public"), 0)
		_ = mount
		if err != nil {
			return err
		}
		dir, err := unix.Open(w.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(dir)
		fd, err := unix.OpenByHandleAt(dir, handle, unix.O_RDONLY|unix.O_CLOEXEC)
		if err == nil {
			err = unix.Close(fd)
		}
		return err
	}},
	{"the kernel's messages", func(World) error { return open("/dev/kmsg", unix.O_RDONLY) }},
	{"the host's disk", makeNode(unix.S_IFBLK, unix.Mkdev(254, 0))},
	{"a device node", makeNode(unix.S_IFCHR, unix.Mkdev(1, 1))},
	{"a fifo", makeNode(unix.S_IFIFO, 0)},
	{"/dev/net/tun", writable(at("/dev/net/tun"))},
	{"/dev/kvm", writable(at("/dev/kvm"))},
	{"/dev/ptmx", writable(at("/dev/ptmx"))},
	{"kernel settings", read(at("/proc/sys/kernel/hostname"))},
	{"hardware", read(at("/sys/devices/system/cpu/online"))},
	{"another control group", func(w World) error {
		if w.Cgroup == "" {
			return errors.New("no control groups")
		}
		return open(w.Cgroup+"/cgroup.procs", unix.O_WRONLY)
	}},

	// Other processes.
	{"environment of another VMM", read(victims("environ"))},
	{"memory of another VMM through /proc", writable(victims("mem"))},
	{"descriptors of another VMM", func(w World) error { _, err := os.ReadDir(victims("fd")(w)); return err }},
	{"root directory of another VMM", func(w World) error { _, err := os.ReadDir(victims("root")(w)); return err }},
	{"its own /proc", read(at("/proc/self/status"))},
	{"the list of processes", list("/proc", "1")},
	{"a signal to another VMM", func(w World) error { return unix.Kill(w.VictimPID, 0) }},
	{"a signal to everybody", func(w World) error { return call(unix.SYS_KILL, uintptr(w.VictimPID), 0) }},
	{"a signal to a thread", func(w World) error { return unix.Tgkill(w.VictimPID, w.VictimPID, 0) }},
	{"a descriptor of another VMM's process", func(w World) error { return descriptor(unix.SYS_PIDFD_OPEN, uintptr(w.VictimPID), 0) }},
	{"ptrace", func(w World) error {
		const seize = 0x4206
		if err := call(unix.SYS_PTRACE, seize, uintptr(w.VictimPID), 0, 0); err != nil {
			return err
		}
		// It ends with this thread; a detach wants the other one stopped.
		return nil
	}},
	{"memory of another VMM through process_vm_readv", func(w World) error {
		buf := make([]byte, 8)
		local := []unix.Iovec{{Base: &buf[0], Len: 8}}
		address, err := firstMapping(w.VictimPID)
		if err != nil {
			address = 0x400000
		}
		_, err2 := unix.ProcessVMReadv(w.VictimPID, local, []unix.RemoteIovec{{Base: address, Len: 8}}, 0)
		return err2
	}},
	{"kcmp", func(w World) error {
		return call(unix.SYS_KCMP, uintptr(os.Getpid()), uintptr(w.VictimPID), 1 /* KCMP_VM */, 0, 0)
	}},
	{"a higher priority", func(World) error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -5) }},
	{"another VMM's priority", func(w World) error { return unix.Setpriority(unix.PRIO_PROCESS, w.VictimPID, 0) }},
	{"another VMM's limits", func(w World) error {
		var old unix.Rlimit
		if err := unix.Prlimit(w.VictimPID, unix.RLIMIT_NOFILE, nil, &old); err != nil {
			return err
		}
		return unix.Prlimit(w.VictimPID, unix.RLIMIT_NOFILE, &old, nil)
	}},

	// Sockets.
	{"the agent's socket", connect(unix.AF_UNIX, func(w World) unix.Sockaddr { return &unix.SockaddrUnix{Name: w.AgentSocket} })},
	{"an abstract socket", connect(unix.AF_UNIX, func(w World) unix.Sockaddr { return &unix.SockaddrUnix{Name: "@" + w.Abstract} })},
	{"the API on the loopback address", connect(unix.AF_INET, func(w World) unix.Sockaddr {
		return &unix.SockaddrInet4{Port: int(w.TCP), Addr: netip.MustParseAddr("127.0.0.1").As4()}
	})},
	{"a unix socket", socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)},
	{"a UDP socket", socket(unix.AF_INET, unix.SOCK_DGRAM, 0)},
	{"an IPv6 socket", socket(unix.AF_INET6, unix.SOCK_DGRAM, 0)},
	{"netlink", socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)},
	{"a packet socket", socket(unix.AF_PACKET, unix.SOCK_RAW, 0)},
	{"a raw socket", socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)},
	{"vsock", socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0)},
	{"kernel cryptography", socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0)},
	{"a socket pair", func(World) error {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = errors.Join(unix.Close(fds[0]), unix.Close(fds[1]))
		}
		return err
	}},

	// Parts of the kernel that have had holes.
	{"io_uring", func(World) error {
		var params [120]byte
		return descriptor(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)))
	}},
	{"userfaultfd", func(World) error { return descriptor(unix.SYS_USERFAULTFD, unix.O_CLOEXEC) }},
	{"bpf", func(World) error {
		attr := struct{ kind, key, value, entries, flags uint32 }{2, 4, 4, 1, 0} // an array
		return descriptor(unix.SYS_BPF, unix.BPF_MAP_CREATE, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	}},
	{"perf events", func(World) error {
		attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{}))}
		return descriptor(unix.SYS_PERF_EVENT_OPEN, uintptr(unsafe.Pointer(&attr)), 0, ^uintptr(0), ^uintptr(0), 0)
	}},
	{"a key", func(World) error {
		_, err := unix.AddKey("user", "wrenn-escape", []byte("x"), unix.KEY_SPEC_THREAD_KEYRING)
		return err
	}},
	{"the session's keys", func(World) error { _, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, true); return err }},
	{"the requested key", func(World) error { return call(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0) }},
	{"System V shared memory", func(w World) error {
		data, err := unix.SysvShmAttach(w.SharedID, 0, 0)
		if err == nil {
			err = unix.SysvShmDetach(data)
		}
		return err
	}},
	{"a message queue", func(World) error {
		return descriptor(unix.SYS_MQ_OPEN, str("wrenn-escape"), unix.O_CREAT|unix.O_RDWR, 0o600, 0)
	}},
	{"fanotify", func(World) error { return descriptor(unix.SYS_FANOTIFY_INIT, unix.FAN_CLASS_NOTIF, 0) }},
	{"inotify", func(World) error { return descriptor(unix.SYS_INOTIFY_INIT1, unix.IN_CLOEXEC) }},
	{"the kernel's log", func(World) error { _, err := unix.Klogctl(unix.SYSLOG_ACTION_SIZE_BUFFER, nil); return err }},
	{"segments", func(World) error {
		var buf [16]byte
		return call(unix.SYS_MODIFY_LDT, 0, uintptr(unsafe.Pointer(&buf)), unsafe.Sizeof(buf))
	}},
	{"I/O ports", func(World) error { return call(unix.SYS_IOPERM, 0x80, 1, 0) }},
	{"the clock", func(World) error { _, err := unix.Adjtimex(&unix.Timex{}); return err }},
	{"its personality", func(World) error { return call(unix.SYS_PERSONALITY, 0xffffffff) }},
	{"Landlock rules of its own", func(World) error {
		attr := uint64(1)
		return descriptor(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), 8, 0)
	}},

	// More rights.
	{"root's user id", func(World) error { return call(unix.SYS_SETRESUID, 0, 0, 0) }},
	{"root's group id", func(World) error { return call(unix.SYS_SETRESGID, 0, 0, 0) }},
	{"root's groups", func(World) error { return call(unix.SYS_SETGROUPS, 0, 0) }},
	{"capabilities", func(World) error {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&header, &data[0]); err != nil {
			return err
		}
		data[0].Effective |= 1 << unix.CAP_SYS_PTRACE
		data[0].Permitted |= 1 << unix.CAP_SYS_PTRACE
		return unix.Capset(&header, &data[0])
	}},
	{"capabilities in the bounding set", func(World) error {
		for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
			if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err == nil && has == 1 {
				return nil
			}
		}
		return errors.New("it is empty")
	}},
	{"core files", func(World) error {
		return unix.Prlimit(0, unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}, nil)
	}},
	{"locked memory", func(World) error {
		page := make([]byte, os.Getpagesize())
		return unix.Mlock(page)
	}},
	{"a thousand descriptors", func(w World) error {
		var err error
		var fds []int
		for range 1000 {
			var fd int
			if fd, err = unix.FcntlInt(uintptr(w.Disk), unix.F_DUPFD_CLOEXEC, 10); err != nil {
				break
			}
			fds = append(fds, fd)
		}
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		return err
	}},
	{"a real-time priority", func(World) error {
		param := int32(1)
		return call(unix.SYS_SCHED_SETSCHEDULER, 0, 1 /* SCHED_FIFO */, uintptr(unsafe.Pointer(&param)))
	}},
	{"another program", func(World) error { return spawn(0)(World{}) }},
	{"a child in a user namespace", spawn(unix.CLONE_NEWUSER)},
	{"a child in a network namespace", spawn(unix.CLONE_NEWNET)},
	{"vfork", func(World) error {
		// As an invalid call, so that none comes of it: outside, the kernel
		// answers EINVAL, which is success here.
		err := call(unix.SYS_CLONE3, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil
		}
		return err
	}},
	{"another VMM's network", func(w World) error {
		fd, err := unix.Open(victims("ns/net")(w), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Setns(fd, unix.CLONE_NEWNET)
	}},
	{"a new host name", func(World) error {
		if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
			return err
		}
		return unix.Sethostname([]byte("escaped"))
	}},

	// Mounts. The first that works gives this thread mounts of its own.
	{"a mount namespace", func(World) error { return privateMounts() }},
	{"a new file system", func(World) error { return mounting(func() error { return unix.Mount("x", "/", "tmpfs", 0, "") }) }},
	{"a writable root", func(World) error {
		return mounting(func() error { return unix.Mount("", "/dev", "", unix.MS_REMOUNT|unix.MS_BIND, "") })
	}},
	{"a bind mount", func(World) error {
		return mounting(func() error { return unix.Mount("/dev/null", "/dev/null", "", unix.MS_BIND, "") })
	}},
	{"a cloned mount", func(World) error {
		fd, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err == nil {
			err = unix.Close(fd)
		}
		return err
	}},
	{"a file system context", func(World) error {
		fd, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
		if err == nil {
			err = unix.Close(fd)
		}
		return err
	}},
	{"an uncovered root", func(World) error { return mounting(func() error { return unix.Unmount("/dev", unix.MNT_DETACH) }) }},
	{"another root directory", func(World) error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		return unix.Chroot("/dev")
	}},
}

// privateMounts gives this thread a mount namespace whose changes stay in it.
func privateMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
}

// mounting calls do, behind a mount namespace of its own where one can be had.
func mounting(do func() error) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err == nil {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
	}
	return do()
}

// firstMapping returns an address that a process has mapped.
func firstMapping(pid int) (uintptr, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, err
	}
	var start uintptr
	_, err = fmt.Sscanf(string(text), "%x-", &start)
	return start, err
}
