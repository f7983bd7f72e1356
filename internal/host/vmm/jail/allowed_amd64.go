package jail

import "golang.org/x/sys/unix"

const (
	auditArch = unix.AUDIT_ARCH_X86_64
	// foreignNumbers and above are those of the x32 calling convention.
	foreignNumbers = 0x40000000
)

// allowed is the allow-list: the calls that QEMU 7.2 and 10.0 made while the
// suites of the driver and of the host ran (testdata/), and a margin for calls of
// the same libraries in other versions. The more frequent come first.
//
// Not on it, among others: io_uring, userfaultfd, keyctl, ptrace and
// process_vm, bpf, perf_event_open, mount and its relatives, unshare and setns,
// socket (descriptors of every socket are handed over), fork and vfork, execve
// of anything but the VMM, kill, setuid and its relatives.
func allowed(kvm bool) []rule {
	ioctls := ioctlTests
	if kvm {
		ioctls = append([]test{{arg: 1, mask: 0xff00, want: kvmIoctl << 8}}, ioctls...)
	}
	// First, because a virtual CPU under KVM runs by it. Of calls that are
	// allowed with any arguments the kernel keeps a map.
	list := []rule{{unix.SYS_IOCTL, ioctls}}
	for _, nr := range always {
		list = append(list, rule{nr: nr})
	}
	return append(list, restricted...)
}

var always = []uint32{
	// Waiting and waking.
	unix.SYS_FUTEX, unix.SYS_PPOLL, unix.SYS_READ, unix.SYS_WRITE, unix.SYS_POLL,
	unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2, unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL,
	unix.SYS_EVENTFD2, unix.SYS_PIPE2, unix.SYS_SELECT, unix.SYS_PSELECT6,
	unix.SYS_CLOCK_NANOSLEEP, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_GETRES,
	unix.SYS_GETTIMEOFDAY, unix.SYS_TIME, unix.SYS_SCHED_YIELD, unix.SYS_RESTART_SYSCALL, unix.SYS_MEMBARRIER,
	unix.SYS_TIMERFD_CREATE, unix.SYS_TIMERFD_SETTIME, unix.SYS_TIMERFD_GETTIME,
	unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_GETTIME, unix.SYS_TIMER_GETOVERRUN, unix.SYS_TIMER_DELETE,
	// Disks and other descriptors.
	unix.SYS_PREAD64, unix.SYS_PWRITE64, unix.SYS_PREADV, unix.SYS_PWRITEV, unix.SYS_PREADV2, unix.SYS_PWRITEV2,
	unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_LSEEK, unix.SYS_FALLOCATE, unix.SYS_FADVISE64, unix.SYS_FDATASYNC,
	unix.SYS_FSYNC, unix.SYS_SYNC_FILE_RANGE, unix.SYS_FTRUNCATE, unix.SYS_COPY_FILE_RANGE,
	unix.SYS_DUP, unix.SYS_DUP2, unix.SYS_DUP3, unix.SYS_CLOSE, unix.SYS_CLOSE_RANGE,
	unix.SYS_FSTAT, unix.SYS_FSTATFS, unix.SYS_GETDENTS64, unix.SYS_FCHDIR,
	// Names. The root directory holds the VMM's own files only.
	unix.SYS_OPEN, unix.SYS_OPENAT, unix.SYS_ACCESS, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2,
	unix.SYS_STAT, unix.SYS_LSTAT, unix.SYS_NEWFSTATAT, unix.SYS_STATX, unix.SYS_STATFS,
	unix.SYS_READLINK, unix.SYS_READLINKAT, unix.SYS_GETCWD, unix.SYS_CHDIR,
	// The monitor's connection; there is no socket(2).
	unix.SYS_RECVMSG, unix.SYS_SENDMSG, unix.SYS_RECVFROM, unix.SYS_SENDTO, unix.SYS_ACCEPT, unix.SYS_ACCEPT4,
	unix.SYS_LISTEN, unix.SYS_SHUTDOWN, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME, unix.SYS_GETSOCKOPT, unix.SYS_SETSOCKOPT,
	// Memory.
	unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MREMAP, unix.SYS_MPROTECT, unix.SYS_MADVISE, unix.SYS_BRK, unix.SYS_MSYNC,
	unix.SYS_MINCORE, unix.SYS_MEMFD_CREATE, unix.SYS_GET_MEMPOLICY, unix.SYS_SET_MEMPOLICY, unix.SYS_MBIND,
	// Threads and signals.
	unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGRETURN, unix.SYS_RT_SIGPENDING, unix.SYS_RT_SIGTIMEDWAIT,
	unix.SYS_RT_SIGSUSPEND, unix.SYS_SIGALTSTACK, unix.SYS_SIGNALFD4, unix.SYS_TGKILL,
	unix.SYS_GETTID, unix.SYS_GETPID, unix.SYS_GETPPID, unix.SYS_SET_TID_ADDRESS, unix.SYS_SET_ROBUST_LIST, unix.SYS_GET_ROBUST_LIST,
	unix.SYS_RSEQ, unix.SYS_ARCH_PRCTL, unix.SYS_SCHED_GETAFFINITY, unix.SYS_SCHED_SETAFFINITY, unix.SYS_GETCPU,
	unix.SYS_SCHED_GETPARAM, unix.SYS_SCHED_GETSCHEDULER, unix.SYS_SCHED_GET_PRIORITY_MAX, unix.SYS_SCHED_GET_PRIORITY_MIN,
	unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	// Questions about the process and the machine.
	unix.SYS_GETRANDOM, unix.SYS_SYSINFO, unix.SYS_UNAME, unix.SYS_GETRLIMIT, unix.SYS_GETRUSAGE, unix.SYS_TIMES,
	unix.SYS_GETUID, unix.SYS_GETGID, unix.SYS_GETEUID, unix.SYS_GETEGID, unix.SYS_GETGROUPS,
	unix.SYS_GETRESUID, unix.SYS_GETRESGID, unix.SYS_CAPGET, unix.SYS_UMASK,
	// A filter on top of this one. It can only take away.
	unix.SYS_SECCOMP,
}

// threadFlags must all be set in a clone(2); with them no new process and no
// namespace can come of it.
const threadFlags = unix.CLONE_THREAD | unix.CLONE_SIGHAND | unix.CLONE_VM

const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS |
	unix.CLONE_NEWUSER | unix.CLONE_NEWCGROUP

var restricted = []rule{
	// clone3(2) has its flags in memory, where a filter cannot look: it is not
	// on the list, and glibc falls back to clone(2).
	{unix.SYS_CLONE, []test{{arg: 0, mask: threadFlags | newNamespaces, want: threadFlags}}},
	{unix.SYS_PRLIMIT64, []test{is(2, 0)}}, // reading
	{unix.SYS_FCNTL, []test{
		is(1, unix.F_GETFL), is(1, unix.F_SETFL), is(1, unix.F_GETFD), is(1, unix.F_SETFD),
		is(1, unix.F_DUPFD), is(1, unix.F_DUPFD_CLOEXEC),
		is(1, unix.F_GETLK), is(1, unix.F_SETLK), is(1, unix.F_OFD_GETLK), is(1, unix.F_OFD_SETLK),
		is(1, unix.F_GET_SEALS), is(1, unix.F_ADD_SEALS),
	}},
	{unix.SYS_PRCTL, []test{
		is(0, unix.PR_SET_NAME), is(0, unix.PR_GET_NAME), is(0, unix.PR_SET_NO_NEW_PRIVS), is(0, unix.PR_GET_NO_NEW_PRIVS),
		is(0, unix.PR_SET_TIMERSLACK), is(0, unix.PR_MCE_KILL), is(0, unix.PR_GET_SECCOMP), is(0, unix.PR_SET_SECCOMP),
		is(0, unix.PR_CAPBSET_READ), is(0, unix.PR_GET_DUMPABLE), is(0, unix.PR_SET_VMA),
	}},
}

const kvmIoctl = 0xae // the type byte of every ioctl of linux/kvm.h

// ioctlTests are for the tap device, files and the test for a terminal.
var ioctlTests = []test{
	is(1, unix.TUNSETOFFLOAD), is(1, unix.TUNSETVNETHDRSZ), is(1, unix.TUNGETVNETHDRSZ), is(1, unix.TUNSETVNETLE),
	is(1, unix.TUNGETIFF), is(1, unix.TUNGETFEATURES), is(1, unix.TUNSETSNDBUF), is(1, unix.TUNSETSTEERINGEBPF),
	is(1, unix.TUNSETQUEUE),
	is(1, unix.TCGETS), is(1, fionbio), is(1, unix.TIOCINQ),
	is(1, figetbsz), is(1, unix.BLKSSZGET), is(1, unix.BLKGETSIZE64), is(1, xfsDioInfo),
}

const (
	fionbio    = 0x5421     // FIONBIO (asm-generic/ioctls.h)
	figetbsz   = 2          // FIGETBSZ (linux/fs.h)
	xfsDioInfo = 0x800c581e // XFS_IOC_DIOINFO (xfs_fs.h)
)
