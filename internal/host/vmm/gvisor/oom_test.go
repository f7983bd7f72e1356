package gvisor_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/vmmtest"
)

// TestMemoryIsUsedUp: a command that uses up the memory is ended, the answer says so, and
// the sandbox and its other commands go on. The disk has the default size: with a small
// one, a busy host reaches its limit before the guest's watch has run.
func TestMemoryIsUsedUp(t *testing.T) {
	d, g, vm := startSized(t, 1, 256, 2048)
	if limit := d.Info().Shape.HostMemoryMB(g.cfg.MemoryMB, g.cfg.DiskMB); limit != 2304 {
		t.Fatalf("the host allows the guest %d MiB, want memory and disk", limit)
	}
	_, err := g.Count(t.Context()) // the other command
	check(t, err)
	for _, c := range []struct{ name, script string }{
		{"one process", vmmtest.Hog},
		{"a fork bomb of hogs", `for i in 1 2 3 4 5 6 7 8 9 10 11 12; do ` + vmmtest.Hog + ` & done; wait`},
		{"small processes", `python3 -c '
import os, time
while True:
	if os.fork() == 0:
		held = b"x" * (6 << 20)
		time.sleep(1000)
'`},
		{"a hog that is not to be chosen", `echo -1000 >/proc/self/oom_score_adj; for p in $(cat /sys/fs/cgroup/user/*/cgroup.procs); do
	[ $p = $$ ] || kill -STOP $p
done; ` + vmmtest.Hog},
	} {
		t.Run(c.name, func(t *testing.T) {
			end := g.End(t, c.script)
			if !end.GetOom() || end.GetStatus() != "signal: killed" || !strings.Contains(end.GetError(), "memory") {
				t.Errorf("ended with %v, want killed for lack of memory", end)
			}
			alive(t, vm)
			if end := g.End(t, "kill -9 $$"); end.GetOom() || end.GetStatus() != "signal: killed" {
				t.Errorf("a command that killed itself ended with %v, want no lack of memory", end)
			}
		})
	}
	_, err = g.Shell(t.Context(), "kill -CONT $(cat /sys/fs/cgroup/user/*/cgroup.procs) || true") // of the last case
	check(t, err)
	before, err := g.Count(t.Context())
	check(t, err)
	for after := before; after == before; {
		after, err = g.Count(t.Context())
		check(t, err)
	}
}

// TestHogOutsideOfTheCommands: root can move a process out of the cgroups of commands,
// and is ended all the same.
func TestHogOutsideOfTheCommands(t *testing.T) {
	_, g, vm := startSized(t, 1, 256, 2048)
	end := g.End(t, `echo $$ >/sys/fs/cgroup/agent/cgroup.procs || exit 3; exec `+vmmtest.Hog)
	if end.GetStatus() != "signal: killed" {
		t.Errorf("ended with %v, want killed", end)
	}
	alive(t, vm)
}

// TestFullMemoryFileSystem: files in a file system in memory that root has mounted
// without a useful limit do not end the sandbox. Root can remove them.
func TestFullMemoryFileSystem(t *testing.T) {
	_, g, vm := startSized(t, 1, 256, 2048)
	_, err := g.Shell(t.Context(), `mkdir /mnt/m; mount -t tmpfs -o size=100g none /mnt/m`)
	check(t, err)
	for i := range 3 {
		end := g.End(t, fmt.Sprintf("dd if=/dev/zero of=/mnt/m/%d bs=1M", i))
		if !end.GetOom() {
			t.Errorf("filling the memory ended with %v, want it ended for lack of memory", end)
		}
		alive(t, vm)
	}
	out, err := g.Shell(t.Context(), `umount /mnt/m && python3 -c 'print(len(b"x" * (100 << 20)))'`)
	if err != nil || strings.TrimSpace(out) != fmt.Sprint(100<<20) {
		t.Errorf("100 MiB after the files were removed: %q, %v", out, err)
	}
}

func alive(t *testing.T, vm vmm.VM) {
	t.Helper()
	select {
	case <-vm.Exited():
		t.Fatalf("the sandbox ended: %+v", vm.Exit())
	default:
	}
}
