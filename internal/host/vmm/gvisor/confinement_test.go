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
func tree(t *testing.T, sentry int) []int {
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
// namespaces of their own, a filter of system calls and an empty root.
func TestProcessesAreConfined(t *testing.T) {
	g, vm := running(t)
	sentry := vm.Record().PID
	pids := tree(t, sentry)
	if len(pids) < 3 {
		t.Fatalf("the sandbox has the processes %v, want a sentry and stubs", pids)
	}
	for _, pid := range pids {
		s := status(t, pid)
		if want := strings.Repeat(strconv.Itoa(uid)+"\t", 4); s["Uid"]+"\t" != want || s["Gid"]+"\t" != want {
			t.Errorf("process %d has the ids %q and %q, want %d", pid, s["Uid"], s["Gid"], uid)
		}
		if s["NoNewPrivs"] != "1" || s["Seccomp"] != "2" {
			t.Errorf("process %d: NoNewPrivs %s, Seccomp %s; want 1 and 2", pid, s["NoNewPrivs"], s["Seccomp"])
		}
		for _, ns := range []string{"user", "pid", "mnt", "net", "ipc", "uts"} {
			own, err := os.Readlink("/proc/self/ns/" + ns)
			check(t, err)
			if theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns)); err != nil || theirs == own {
				t.Errorf("process %d: namespace %s is %q (%v), the host's is %q", pid, ns, theirs, err, own)
			}
		}
	}
	root, err := os.ReadDir(fmt.Sprintf("/proc/%d/root", sentry))
	check(t, err)
	for _, e := range root {
		if !slices.Contains([]string{"etc", "proc"}, e.Name()) {
			t.Errorf("the sentry's root has %s, want /etc and /proc only", e.Name())
		}
	}
	for name, writes := range files(t, sentry) {
		allowed := writable
		if !writes {
			allowed = slices.Concat(writable, readable, []string{g.cfg.RootImage})
		}
		if strings.HasPrefix(name, "/") && !slices.ContainsFunc(allowed, func(p string) bool { return strings.Contains(name, p) }) {
			t.Errorf("the sentry has %s open, for writing: %t", name, writes)
		}
	}
}

// Parts of the names of files that a sentry has open: its memory, its console and the
// report of a crash; and only for reading its images and its own /proc.
var (
	writable = []string{"memfd:", "/console", "panic.log", "/null"}
	readable = []string{"/agent.erofs", "/proc"}
)

// files returns the files that a process has open, and whether for writing.
func files(t *testing.T, pid int) map[string]bool {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d", pid)
	entries, err := os.ReadDir(filepath.Join(dir, "fd"))
	check(t, err)
	found := make(map[string]bool)
	for _, e := range entries {
		name, err := os.Readlink(filepath.Join(dir, "fd", e.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		info, err := os.ReadFile(filepath.Join(dir, "fdinfo", e.Name()))
		if err != nil {
			continue
		}
		var pos, flags int64
		if _, err := fmt.Sscanf(string(info), "pos:\t%d\nflags:\t%o", &pos, &flags); err != nil {
			t.Fatalf("%v: %q", err, info)
		}
		found[name] = found[name] || flags&unix.O_ACCMODE != unix.O_RDONLY
	}
	return found
}
