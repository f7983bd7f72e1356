package gvisor_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/linux/cgroupfs"
)

// startSized starts a guest with the given sizes and the limits of a host.
func startSized(t *testing.T, vcpus, memoryMB, diskMB int) (driver, *guest, vmm.VM) {
	t.Helper()
	d, image := newDriver(t)
	g := newGuest(t, image)
	g.cfg.VCPUs, g.cfg.MemoryMB, g.cfg.DiskMB = vcpus, memoryMB, diskMB
	g.hostLimits(t, d.Info().Shape)
	vm, err := d.Start(t.Context(), g.cfg)
	check(t, err)
	t.Cleanup(func() { kill(t, vm) })
	check(t, g.Ready(t.Context()))
	return d, g, vm
}

// TestSizes: the guest sees its own memory, CPUs and disk, whichever they are, before
// and after a restore.
func TestSizes(t *testing.T) {
	for _, c := range []struct{ vcpus, memoryMB, diskMB int }{{1, 256, 512}, {2, 384, 1024}} {
		t.Run(fmt.Sprintf("%d CPUs", c.vcpus), func(t *testing.T) {
			d, g, vm := startSized(t, c.vcpus, c.memoryMB, c.diskMB)
			checkSizes(t, g)
			checkGroups(t, g, vm)
			check(t, g.Freeze(t.Context()))
			check(t, vm.Pause(t.Context()))
			from := vmm.Image{Base: t.TempDir()}
			save(t, vm, from.Base)
			kill(t, vm)
			vm, err := d.Restore(t.Context(), g.cfg, from)
			check(t, err)
			t.Cleanup(func() { check(t, vm.Kill(context.WithoutCancel(t.Context()))) })
			check(t, g.Identify(t.Context()))
			checkSizes(t, g)
			checkGroups(t, g, vm)
		})
	}
}

func checkSizes(t *testing.T, g *guest) {
	t.Helper()
	out, err := g.Shell(t.Context(), `awk '/MemTotal/ {print $2}' /proc/meminfo
nproc; python3 -c 'import os; print(os.cpu_count())'; grep -c ^processor /proc/cpuinfo
mkdir -p /mnt/m; mount -t tmpfs none /mnt/m
for d in / /tmp /var/tmp /dev /run /dev/shm /mnt/m; do df -k --output=size $d | tail -n 1; done
umount /mnt/m`)
	check(t, err)
	got := strings.Fields(out)
	cpus, memory, disk := g.cfg.VCPUs, g.cfg.MemoryMB<<10, g.cfg.DiskMB<<10
	var want []string
	for _, n := range []int{memory, cpus, cpus, cpus, disk, disk, disk, 64, memory / 8, memory / 2, memory / 2} {
		want = append(want, fmt.Sprint(n))
	}
	if !slices.Equal(got, want) {
		t.Errorf("MemTotal, three counts of CPUs, and the sizes of /, /tmp, /var/tmp, /dev, /run, /dev/shm and of a new tmpfs in KiB are\n%v, want\n%v", got, want)
	}
}

// checkGroups: all processes are in the control groups of the sandbox.
func checkGroups(t *testing.T, g *guest, vm vmm.VM) {
	t.Helper()
	path := filepath.Join("/", filepath.Base(filepath.Dir(g.cfg.Cgroup.Name())), filepath.Base(g.cfg.Cgroup.Name()))
	mounts, err := cgroupfs.Find()
	check(t, err)
	limited := 0
	for _, pid := range tree(t, vm.Record().PID) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		check(t, err)
		for line := range strings.Lines(string(text)) {
			_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
			controllers, group, _ := strings.Cut(rest, ":")
			if !slices.Contains([]string{"", "memory", "cpu", "pids"}, controllers) || controllers != "" && mounts.V1[controllers] == "" {
				continue // the host has no group in it
			}
			limited++
			if group != path {
				t.Errorf("process %d is in the group %s of %q, want %s", pid, group, controllers, path)
			}
		}
	}
	if limited == 0 {
		t.Error("no process is in a control group")
	}
}

// TestSizesWithoutVersion1 runs TestSizes where only control groups of version 2 are
// mounted. The controllers may be those of version 1 all the same, so that nothing
// limits the sandbox.
func TestSizesWithoutVersion1(t *testing.T) {
	hosttest.Root(t)
	const script = `mount --make-rprivate / && umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"`
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-c", script, "sh", os.Args[0], "-test.run=^TestSizes$", "-test.v")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestSizes") {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestFullFileSystems: every file system that is in memory has a limit, and all of
// them together leave the sandbox alive.
func TestFullFileSystems(t *testing.T) {
	_, g, vm := startSized(t, 1, 256, 256)
	out, err := g.Shell(t.Context(), `for d in /tmp /var/tmp /root /dev/shm /run /dev; do
	dd if=/dev/zero of=$d/fill bs=1M 2>&1 | grep -o 'No space left on device'
done`)
	check(t, err)
	if n := strings.Count(out, "No space left"); n != 6 {
		t.Errorf("filling 6 directories ended with %q, want each to end for lack of space", out)
	}
	select {
	case <-vm.Exited():
		t.Fatalf("the sandbox ended: %+v", vm.Exit())
	default:
	}
	// Root can remove the files, after which there is room again.
	out, err = g.Shell(t.Context(), `rm /tmp/fill /var/tmp/fill /root/fill /dev/shm/fill /run/fill /dev/fill
dd if=/dev/zero of=/tmp/again bs=1M count=100 2>/dev/null && stat -c %s /tmp/again`)
	check(t, err)
	if strings.TrimSpace(out) != fmt.Sprint(100<<20) {
		t.Errorf("a file of 100 MiB after all were removed: %q", out)
	}
}
