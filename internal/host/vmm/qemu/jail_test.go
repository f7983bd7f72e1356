package qemu_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// TestRunningVMIsJailed looks at a real QEMU from outside.
func TestRunningVMIsJailed(t *testing.T) {
	deps := hosttest.Deps(t, hosttest.Name("wqjail"))
	t.Cleanup(func() { check(t, deps.Network.(io.Closer).Close()) })
	g := newGuest(t, deps)
	vm, err := deps.Drivers.Preferred().Start(t.Context(), g.Config)
	check(t, err)
	t.Cleanup(func() { check(t, vm.Kill(context.Background())) })
	p := inspected{t, fmt.Sprintf("/proc/%d/", vm.Record().PID)}
	t.Run("Namespaces", func(t *testing.T) { p.namespaces(t) })
	t.Run("Status", func(t *testing.T) { p.status(t) })
	t.Run("Limits", func(t *testing.T) { p.limits(t, g.Config) })
	t.Run("Mounts", func(t *testing.T) { p.mounts(t, writesMemory(t, deps.Drivers.Preferred())) })
	t.Run("Descriptors", func(t *testing.T) { p.descriptors(t) })
	t.Run("Files", func(t *testing.T) { ownFiles(t, g.Config) })
}

// inspected is a process by its directory in /proc.
type inspected struct {
	t   *testing.T
	dir string
}

func (p inspected) namespaces(t *testing.T) {
	for _, ns := range []string{"net", "mnt", "pid", "ipc", "uts", "cgroup"} {
		own, err1 := os.Readlink(p.dir + "ns/" + ns)
		host, err2 := os.Readlink("/proc/self/ns/" + ns)
		if err1 != nil || err2 != nil || own == host {
			t.Errorf("%s namespace: is %s (%v), the test's is %s (%v), want another one", ns, own, err1, host, err2)
		}
	}
	routes, err := os.ReadFile(p.dir + "net/dev")
	check(t, err)
	for line := range strings.Lines(string(routes)) {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && name != "lo" {
			t.Errorf("the network namespace has the device %s, want none but lo", name)
		}
	}
}

// values reads a file of "name: value" lines.
func (p inspected) values(name string) map[string]string {
	p.t.Helper()
	data, err := os.ReadFile(p.dir + name)
	check(p.t, err)
	out := make(map[string]string)
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		out[key] = strings.Join(strings.Fields(value), " ")
	}
	return out
}

func (p inspected) status(t *testing.T) {
	id := fmt.Sprintf("%d %d %d %d", uid, uid, uid, uid)
	status := p.values("status")
	for key, want := range map[string]string{
		"Uid": id, "Gid": id, "NoNewPrivs": "1", "Seccomp": "2",
		"CapInh": noCaps, "CapPrm": noCaps, "CapEff": noCaps, "CapBnd": noCaps, "CapAmb": noCaps,
	} {
		if status[key] != want {
			t.Errorf("%s is %q, want %q", key, status[key], want)
		}
	}
	if n := status["Seccomp_filters"]; n != "" && n != "2" {
		t.Errorf("there are %s seccomp filters, want the jail's and QEMU's", n)
	}
	if inner := strings.Fields(status["NSpid"]); len(inner) < 2 || inner[len(inner)-1] != "1" {
		t.Errorf("NSpid is %v, want PID 1 in a namespace of its own", inner)
	}
}

const noCaps = "0000000000000000"

func (p inspected) limits(t *testing.T, cfg vmm.Config) {
	data, err := os.ReadFile(p.dir + "limits")
	check(t, err)
	disk, err := os.Stat(cfg.Disk)
	check(t, err)
	size := fmt.Sprint(max(disk.Size(), int64(cfg.MemoryMB)<<20))
	for name, want := range map[string]string{
		"Max core file size": "0", "Max file size": size, "Max open files": "512", "Max locked memory": "0",
		"Max msgqueue size": "0", "Max realtime priority": "0",
	} {
		_, rest, ok := strings.Cut(string(data), name)
		if fields := strings.Fields(rest); !ok || len(fields) < 2 || fields[0] != want || fields[1] != want {
			t.Errorf("%s: %.60s, want %s", name, rest, want)
		}
	}
}

// writesMemory reports whether the installed QEMU wants memory files writable.
func writesMemory(t *testing.T, d vmm.Driver) bool {
	builds, err := d.Builds()
	check(t, err)
	i := slices.IndexFunc(builds, func(b vmm.Build) bool { return b.Current })
	return i >= 0 && builds[i].WritesMemory
}

func (p inspected) mounts(t *testing.T, writesMemory bool) {
	entries, err := os.ReadDir(p.dir + "root")
	check(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"dev", "initrd", "kernel", "memory", "program"}; !slices.Equal(names, want) {
		t.Errorf("the root directory holds %v, want %v", names, want)
	}
	data, err := os.ReadFile(p.dir + "mountinfo")
	check(t, err)
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		options := strings.Split(fields[5], ",")
		want := []string{"nosuid", "ro", "nodev"}
		switch {
		case fields[4] == "/dev/null":
			want = []string{"nosuid", "noexec"}
		case fields[4] == "/memory" && writesMemory:
			want = []string{"nosuid", "nodev"}
		}
		for _, o := range want {
			if !slices.Contains(options, o) {
				t.Errorf("%s is mounted with %v, want %s", fields[4], options, o)
			}
		}
		if fields[4] != "/program" && !slices.Contains(options, "noexec") {
			t.Errorf("programs can be executed from %s", fields[4])
		}
	}
}

// descriptors wants only descriptors that a VM process is given or makes itself.
func (p inspected) descriptors(t *testing.T) {
	entries, err := os.ReadDir(p.dir + "fd")
	check(t, err)
	allowed := []string{
		"/dev/null", "pipe:", "socket:", "anon_inode:[eventfd]", "anon_inode:[signalfd]", "anon_inode:[eventpoll]",
		"/dev/net/tun", "/memory", "/memfd:",
	}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(p.dir, "fd", e.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		own := strings.HasSuffix(target, "/disk") || strings.HasSuffix(target, ".erofs") || strings.HasPrefix(target, filepath.Dir(hosttest.ImagesDir()))
		if !own && !slices.ContainsFunc(allowed, func(a string) bool { return strings.HasPrefix(target, a) }) {
			t.Errorf("descriptor %s is %s", e.Name(), target)
		}
	}
}

// ownFiles: the process's user owns nothing but the memory of this cold boot.
func ownFiles(t *testing.T, cfg vmm.Config) {
	for _, path := range []string{cfg.Disk, cfg.Dir, filepath.Join(cfg.Dir, "qmp.sock")} {
		st, err := os.Stat(path)
		check(t, err)
		if st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %o, want root's alone", path, st.Mode().Perm())
		}
	}
}
