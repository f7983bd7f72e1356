package gvisor_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// hostile starts user processes that continue all others and fork all the time, a
// process that waits for its stopped children, and one that its user has stopped.
const hostile = `cat >/tmp/hostile.py <<'END'
import os, signal, time
os.setgid(1000); os.setuid(1000)
n = 0
while True:
    n += 1
    for pid in os.listdir("/proc"):
        if pid.isdigit() and int(pid) != os.getpid():
            try: os.kill(int(pid), signal.SIGCONT)
            except OSError: pass
    if os.fork() == 0: os._exit(0)
    os.wait()
    with open("/tmp/steps.%d" % os.getpid(), "w") as f: f.write(str(n))
END
cat >/tmp/parent.py <<'END'
import os, time
child = os.fork()
if child == 0:
    while True: time.sleep(0.01)
with open("/tmp/told", "w") as f:
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        f.write("stopped\n"); f.flush()
END
for i in 1 2 3; do setsid python3 /tmp/hostile.py >/dev/null 2>&1 & done
setsid python3 /tmp/parent.py >/dev/null 2>&1 &
while [ $(ls /tmp/steps.* 2>/dev/null | wc -l) != 3 ] || [ ! -e /tmp/told ]; do sleep 0.05; done`

// states prints the state and the name of each process but the agent's and its own.
const states = `for p in /proc/[0-9]*; do
	read -r stat <$p/stat || continue
	pid=${p#/proc/}; [ "$pid" != $$ ] || continue
	read -r -d "" first <$p/cmdline
	case $first in *wrenn-guest*) continue ;; esac
	rest=${stat##*) }; echo "${rest%% *} $first"
done 2>/dev/null`

// TestUsersAreHeldUntilTheGuestIsRenewed: from before a snapshot until the agent
// releases them, in the original and in every copy, no user process runs, although
// some of them continue all others, and a parent learns of nothing.
func TestUsersAreHeldUntilTheGuestIsRenewed(t *testing.T) {
	d, image := newDriver(t)
	g := newGuest(t, image)
	vm, err := d.Start(t.Context(), g.cfg)
	check(t, err)
	t.Cleanup(func() { kill(t, vm) })
	check(t, g.Ready(t.Context()))
	_, err = g.Shell(t.Context(), hostile)
	check(t, err)

	check(t, g.Freeze(t.Context()))
	held(t, d, g, "the original")
	check(t, vm.Pause(t.Context()))
	from := vmm.Image{Base: t.TempDir()}
	save(t, vm, from.Base)
	check(t, vm.Resume(t.Context()))
	held(t, d, g, "the original after its snapshot")
	kill(t, vm)

	vm, err = d.Restore(t.Context(), g.cfg, from)
	check(t, err)
	held(t, d, g, "the copy")
	check(t, g.Identify(t.Context()))
	if _, err := g.Shell(t.Context(), `cat /tmp/steps.* >/tmp/before; while cat /tmp/steps.* | cmp -s - /tmp/before; do sleep 0.05; done`); err != nil {
		t.Fatalf("the processes of the copy do not continue: %v", err)
	}
	if told, err := g.Shell(t.Context(), "cat /tmp/told"); err != nil || told != "" {
		t.Errorf("a parent was told that its child %q (%v), want nothing", told, err)
	}
}

// held fails unless every user process is stopped, twice.
func held(t *testing.T, d driver, g *guest, where string) {
	t.Helper()
	builds, err := d.Builds()
	check(t, err)
	for range 2 {
		cmd := exec.Command(filepath.Join(builds[0].Dir, "runsc"), "--root="+g.cfg.Dir, "exec", "vm", "/bin/bash", "-c", states)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("list the processes of %s: %v: %s", where, err, out)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if len(lines) < 5 {
			t.Fatalf("%s has the processes %q, want at least 5", where, lines)
		}
		for _, line := range lines {
			if !strings.Contains("tTZ", line[:1]) {
				t.Errorf("%s has a process in state %q while users are held, want t", where, line)
			}
		}
	}
}

// TestCommandsInheritNoDescriptors: a command has none of the agent's descriptors. With the one of
// the HoldChannel it could continue processes that are held.
func TestCommandsInheritNoDescriptors(t *testing.T) {
	g, _ := running(t)
	open, err := g.Shell(t.Context(), `python3 -c 'import os; print([n for n in range(3, 64) if os.path.lexists("/proc/self/fd/%d" % n) and os.readlink("/proc/self/fd/%d" % n)])'`)
	check(t, err)
	if strings.TrimSpace(open) != "[]" {
		t.Errorf("a command has the descriptors %s, want none but the first three", open)
	}
}
