package jail

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// programAddress stands for the path that may be executed.
const programAddress = 0xc000012340

func testFilter(kvm bool) []unix.SockFilter {
	return assemble(append(allowed(kvm), rule{unix.SYS_EXECVE, []test{is(0, programAddress)}}))
}

// run interprets a filter as the kernel does.
func run(t *testing.T, filter []unix.SockFilter, arch uint32, nr uint32, args [6]uint64) uint32 {
	t.Helper()
	data := make([]byte, 64)
	binary.LittleEndian.PutUint32(data[dataNumber:], nr)
	binary.LittleEndian.PutUint32(data[dataArch:], arch)
	for i, a := range args {
		binary.LittleEndian.PutUint64(data[dataArgs+8*i:], a)
	}
	var acc uint32
	for pc := 0; pc < len(filter); pc++ {
		in := filter[pc]
		taken := false
		switch in.Code {
		case bpfLoad:
			acc = binary.LittleEndian.Uint32(data[in.K:])
			continue
		case bpfAnd:
			acc &= in.K
			continue
		case bpfRet:
			return in.K
		case bpfEqual:
			taken = acc == in.K
		case bpfAbove:
			taken = acc >= in.K
		default:
			t.Fatalf("unknown instruction %+v", in)
		}
		if taken {
			pc += int(in.Jt)
		} else {
			pc += int(in.Jf)
		}
	}
	t.Fatal("the filter does not end")
	return 0
}

// TestFilterAllowsWhatQEMUCalls holds the allow-list to the traces.
func TestFilterAllowsWhatQEMUCalls(t *testing.T) {
	files, err := filepath.Glob("testdata/qemu-*.txt")
	if err != nil || len(files) < 2 {
		t.Fatalf("traces: %v %v", files, err)
	}
	filter := testFilter(false)
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		calls := 0
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "#") {
				continue
			}
			nr, args := parseCall(t, lines.Text())
			if got := run(t, filter, auditArch, nr, args); got != retAllow {
				t.Errorf("%s: %s gives %#x, want it allowed", file, lines.Text(), got)
			}
			calls++
		}
		if calls < 40 {
			t.Errorf("%s holds %d calls only", file, calls)
		}
	}
}

// parseCall reads "name number argument=value".
func parseCall(t *testing.T, line string) (nr uint32, args [6]uint64) {
	t.Helper()
	var name string
	var arg int
	var value uint64
	n, err := fmt.Sscanf(line, "%s %d %d=%v", &name, &nr, &arg, &value)
	if n < 2 {
		t.Fatalf("line %q: %v", line, err)
	}
	if n == 4 {
		args[arg] = value
	}
	return nr, args
}

// TestFilterForbids names the calls that must never be on the list.
func TestFilterForbids(t *testing.T) {
	filter := testFilter(true)
	for name, nr := range map[string]uint32{
		"io_uring_setup": unix.SYS_IO_URING_SETUP, "io_uring_enter": unix.SYS_IO_URING_ENTER, "io_uring_register": unix.SYS_IO_URING_REGISTER,
		"userfaultfd": unix.SYS_USERFAULTFD, "keyctl": unix.SYS_KEYCTL, "add_key": unix.SYS_ADD_KEY, "request_key": unix.SYS_REQUEST_KEY,
		"ptrace": unix.SYS_PTRACE, "process_vm_readv": unix.SYS_PROCESS_VM_READV, "process_vm_writev": unix.SYS_PROCESS_VM_WRITEV,
		"pidfd_open": unix.SYS_PIDFD_OPEN, "pidfd_getfd": unix.SYS_PIDFD_GETFD, "kcmp": unix.SYS_KCMP,
		"bpf": unix.SYS_BPF, "perf_event_open": unix.SYS_PERF_EVENT_OPEN, "mount": unix.SYS_MOUNT, "umount2": unix.SYS_UMOUNT2,
		"open_tree": unix.SYS_OPEN_TREE, "move_mount": unix.SYS_MOVE_MOUNT, "fsopen": unix.SYS_FSOPEN, "fsmount": unix.SYS_FSMOUNT,
		"mount_setattr": unix.SYS_MOUNT_SETATTR, "pivot_root": unix.SYS_PIVOT_ROOT, "chroot": unix.SYS_CHROOT,
		"unshare": unix.SYS_UNSHARE, "setns": unix.SYS_SETNS, "clone3": unix.SYS_CLONE3, "fork": unix.SYS_FORK, "vfork": unix.SYS_VFORK,
		"execveat": unix.SYS_EXECVEAT, "socket": unix.SYS_SOCKET, "socketpair": unix.SYS_SOCKETPAIR, "connect": unix.SYS_CONNECT, "bind": unix.SYS_BIND,
		"setuid": unix.SYS_SETUID, "setresuid": unix.SYS_SETRESUID, "setgid": unix.SYS_SETGID, "setgroups": unix.SYS_SETGROUPS, "capset": unix.SYS_CAPSET,
		"kill": unix.SYS_KILL, "tkill": unix.SYS_TKILL, "rt_sigqueueinfo": unix.SYS_RT_SIGQUEUEINFO, "mknod": unix.SYS_MKNOD, "mknodat": unix.SYS_MKNODAT,
		"unlink": unix.SYS_UNLINK, "rename": unix.SYS_RENAME, "chmod": unix.SYS_CHMOD, "fchmod": unix.SYS_FCHMOD, "chown": unix.SYS_CHOWN,
		"init_module": unix.SYS_INIT_MODULE, "finit_module": unix.SYS_FINIT_MODULE, "kexec_load": unix.SYS_KEXEC_LOAD, "reboot": unix.SYS_REBOOT,
		"name_to_handle_at": unix.SYS_NAME_TO_HANDLE_AT, "open_by_handle_at": unix.SYS_OPEN_BY_HANDLE_AT, "shmat": unix.SYS_SHMAT, "shmget": unix.SYS_SHMGET,
		"syslog": unix.SYS_SYSLOG, "iopl": unix.SYS_IOPL, "modify_ldt": unix.SYS_MODIFY_LDT, "personality": unix.SYS_PERSONALITY, "quotactl": unix.SYS_QUOTACTL,
		"a number that no kernel has": 0x3fffffff,
	} {
		if got := run(t, filter, auditArch, nr, [6]uint64{}); got != retUnknown {
			t.Errorf("%s gives %#x, want ENOSYS", name, got)
		}
	}
	for name, c := range map[string]struct {
		nr   uint32
		args [6]uint64
	}{
		"fork by clone":                {unix.SYS_CLONE, [6]uint64{uint64(unix.SIGCHLD)}},
		"a thread in a user namespace": {unix.SYS_CLONE, [6]uint64{threadFlags | unix.CLONE_NEWUSER}},
		"exec of something else":       {unix.SYS_EXECVE, [6]uint64{programAddress + 1}},
		"exec, other upper half":       {unix.SYS_EXECVE, [6]uint64{programAddress + 1<<32}},
		"a new limit":                  {unix.SYS_PRLIMIT64, [6]uint64{0, 0, 1}},
		"keys into a terminal":         {unix.SYS_IOCTL, [6]uint64{0, unix.TIOCSTI}},
		"another tap":                  {unix.SYS_IOCTL, [6]uint64{0, unix.TUNSETIFF}},
		"a filter on the tap":          {unix.SYS_IOCTL, [6]uint64{0, unix.TUNATTACHFILTER}},
		"a dumpable process":           {unix.SYS_PRCTL, [6]uint64{unix.PR_SET_DUMPABLE, 1}},
		"another owner of signals":     {unix.SYS_FCNTL, [6]uint64{0, unix.F_SETOWN}},
	} {
		if got := run(t, filter, auditArch, c.nr, c.args); got != retForbidden {
			t.Errorf("%s gives %#x, want EPERM", name, got)
		}
	}
}

func TestFilterOfKVM(t *testing.T) {
	const run0 = 0xae80 // KVM_RUN
	if got := run(t, testFilter(true), auditArch, unix.SYS_IOCTL, [6]uint64{0, run0}); got != retAllow {
		t.Errorf("KVM_RUN under KVM gives %#x, want it allowed", got)
	}
	if got := run(t, testFilter(false), auditArch, unix.SYS_IOCTL, [6]uint64{0, run0}); got != retForbidden {
		t.Errorf("KVM_RUN under software emulation gives %#x, want EPERM", got)
	}
}

func TestFilterKillsForeignConventions(t *testing.T) {
	filter := testFilter(false)
	if got := run(t, filter, unix.AUDIT_ARCH_I386, unix.SYS_READ, [6]uint64{}); got != retKill {
		t.Errorf("an i386 call gives %#x, want an end", got)
	}
	if got := run(t, filter, auditArch, 0x40000000+unix.SYS_READ, [6]uint64{}); got != retKill {
		t.Errorf("an x32 call gives %#x, want an end", got)
	}
}

// TestFilterJumps: a conditional jump is a byte wide, a filter at most
// BPF_MAXINSNS long.
func TestFilterJumps(t *testing.T) {
	for _, r := range allowed(true) {
		if n := 7*len(r.tests) + 1; n > 255 {
			t.Errorf("the rule of call %d takes %d instructions, more than a jump passes over", r.nr, n)
		}
	}
	if n := len(testFilter(true)); n > 4096 {
		t.Errorf("the filter has %d instructions", n)
	}
}
