package gvisor_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/linux/proc"
)

// running starts a guest that has run a few programs, so that it has stubs.
func running(t *testing.T) (*guest, vmm.VM) {
	t.Helper()
	d, image := newDriver(t)
	g := newGuest(t, image)
	vm, err := d.Start(t.Context(), g.cfg)
	check(t, err)
	t.Cleanup(func() { kill(t, vm) })
	check(t, g.Ready(t.Context()))
	_, err = g.Shell(t.Context(), "sleep 1000 & python3 -c 'print(1)'")
	check(t, err)
	return g, vm
}

// tree returns the sentry and its descendants.
func tree(t testing.TB, sentry int) []int {
	t.Helper()
	pids := []int{sentry}
	entries, err := os.ReadDir("/proc")
	check(t, err)
	for changed := true; changed; {
		changed = false
		for _, e := range entries {
			pid, err := strconv.Atoi(e.Name())
			if err != nil || slices.Contains(pids, pid) {
				continue
			}
			if stat, err := proc.ReadStat(pid); err == nil && slices.Contains(pids, stat.Parent) {
				pids, changed = append(pids, pid), true
			}
		}
	}
	return pids
}

// status returns the lines of /proc/PID/status by name.
func status(t *testing.T, pid int) map[string]string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	check(t, err)
	lines := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		lines[name] = strings.TrimSpace(value)
	}
	return lines
}

// TestProcessesAreConfined: the sentry and its stubs have the user id of the sandbox,
// namespaces of their own, a filter of system calls, an empty root, no capability
// outside of their user namespace and only the files that they need.
func TestProcessesAreConfined(t *testing.T) {
	g, vm := running(t)
	sentry := vm.Record().PID
	pids := tree(t, sentry)
	if len(pids) < 3 {
		t.Fatalf("the sandbox has the processes %v, want a sentry and stubs", pids)
	}
	for _, pid := range pids {
		checkStatus(t, pid)
		checkNamespaces(t, pid)
		checkLimits(t, pid)
		checkFiles(t, pid, g.cfg.RootImage)
		root, err := os.ReadDir(fmt.Sprintf("/proc/%d/root", pid))
		check(t, err)
		for _, e := range root {
			if !slices.Contains([]string{"etc", "proc"}, e.Name()) {
				t.Errorf("the root of process %d has %s, want /etc and /proc only", pid, e.Name())
			}
		}
		if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || len(env) > 0 {
			t.Errorf("process %d has the environment %q (%v), want none", pid, env, err)
		}
	}
	for _, path := range []string{g.cfg.Dir, filepath.Join(g.cfg.Dir, "runsc-vm.sock"), filepath.Join(g.cfg.Dir, "console")} {
		var st unix.Stat_t
		check(t, unix.Stat(path, &st))
		if st.Uid != 0 {
			t.Errorf("%s belongs to user %d, want root", path, st.Uid)
		}
	}
	if st, err := os.Stat(g.cfg.Dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the directory of the sandbox has mode %v (%v), want root's alone", st.Mode(), err)
	}
}

// sentryCapabilities are those of a sentry, in its user namespace: CAP_CHOWN,
// CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID, CAP_SYS_PTRACE. They
// are good for files and processes of the one user id in it, its own.
const sentryCapabilities = "000000000008001f"

func checkStatus(t *testing.T, pid int) {
	t.Helper()
	s := status(t, pid)
	id := strings.TrimSpace(strings.Repeat(strconv.Itoa(uid)+"\t", 4))
	for key, want := range map[string]string{
		"Uid": id, "Gid": id, "Groups": "", "NoNewPrivs": "1", "Seccomp": "2", "CapInh": "0000000000000000",
		"CapPrm": sentryCapabilities, "CapEff": sentryCapabilities, "CapBnd": sentryCapabilities, "CapAmb": "0000000000000000",
	} {
		if s[key] != want {
			t.Errorf("process %d: %s is %q, want %q", pid, key, s[key], want)
		}
	}
}

func checkNamespaces(t *testing.T, pid int) {
	t.Helper()
	for _, ns := range []string{"user", "pid", "mnt", "net", "ipc", "uts"} {
		own, err := os.Readlink("/proc/self/ns/" + ns)
		check(t, err)
		if theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns)); err != nil || theirs == own {
			t.Errorf("process %d: namespace %s is %q (%v), the host's is %q", pid, ns, theirs, err, own)
		}
	}
	for _, name := range []string{"uid_map", "gid_map"} {
		ids, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		check(t, err)
		if got, want := strings.Fields(string(ids)), []string{"0", strconv.Itoa(uid), "1"}; !slices.Equal(got, want) {
			t.Errorf("process %d: %s is %v, want its own id alone, %v", pid, name, got, want)
		}
	}
}

func checkLimits(t *testing.T, pid int) {
	t.Helper()
	for resource, most := range map[int]uint64{
		unix.RLIMIT_CORE: 0, unix.RLIMIT_NOFILE: 8192, unix.RLIMIT_RTPRIO: 0, unix.RLIMIT_NICE: 0,
	} {
		var limit unix.Rlimit
		check(t, unix.Prlimit(pid, resource, nil, &limit))
		if limit.Max > most {
			t.Errorf("process %d may raise its limit of resource %d to %d, want %d", pid, resource, limit.Max, most)
		}
	}
}

// checkFiles: the process has no file of the host open for writing, but for memory that
// is charged to its group and FIFOs. It has its images open for reading.
func checkFiles(t *testing.T, pid int, image string) {
	t.Helper()
	for name, file := range files(t, pid) {
		allowed := writable
		if !file.writes {
			allowed = slices.Concat(writable, readable, []string{image})
		}
		if strings.HasPrefix(name, "/") && !slices.ContainsFunc(allowed, func(p string) bool { return strings.Contains(name, p) }) {
			t.Errorf("process %d has %s open, for writing: %t", pid, name, file.writes)
		}
		if file.writes && file.mode&unix.S_IFMT == unix.S_IFREG && !strings.HasPrefix(name, "/memfd:") {
			t.Errorf("process %d can write the file %s of the host", pid, name)
		}
	}
}

// Parts of the names of files that a sentry has open: its memory, its console and the
// report of a crash; and only for reading its images and its own /proc.
var (
	writable = []string{"memfd:", "/console", "panic.log", "/null"}
	readable = []string{"/agent.erofs", "/proc"}
)

// file is an open file: its type, and whether it is open for writing.
type file struct {
	mode   uint32
	writes bool
}

// files returns the files that a process has open.
func files(t *testing.T, pid int) map[string]file {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d", pid)
	entries, err := os.ReadDir(filepath.Join(dir, "fd"))
	check(t, err)
	found := make(map[string]file)
	for _, e := range entries {
		name, err := os.Readlink(filepath.Join(dir, "fd", e.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		var st unix.Stat_t
		info, err := os.ReadFile(filepath.Join(dir, "fdinfo", e.Name()))
		if err != nil || unix.Stat(filepath.Join(dir, "fd", e.Name()), &st) != nil {
			continue
		}
		var pos, flags int64
		if _, err := fmt.Sscanf(string(info), "pos:\t%d\nflags:\t%o", &pos, &flags); err != nil {
			t.Fatalf("%v: %q", err, info)
		}
		found[name] = file{st.Mode, found[name].writes || flags&unix.O_ACCMODE != unix.O_RDONLY}
	}
	return found
}
