package qemu_test

import (
	"context"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
)

// gaps is a Python program that moves itself to the group of its argument and writes the
// longest time, in milliseconds, in which it did not run. It thaws the users all the time.
const gaps = `import sys, time
group = "/sys/fs/cgroup" + sys.argv[1]
with open(group + "/cgroup.procs", "w") as f: f.write("0")
freeze = open("/sys/fs/cgroup/user/cgroup.freeze", "w")
longest, last = 0, time.monotonic_ns()
while True:
    freeze.write("0"); freeze.flush()
    now = time.monotonic_ns()
    if now - last > longest:
        longest = now - last
        with open("/tmp/gap" + sys.argv[1].replace("/", "_"), "w") as f: f.write(str(longest // 1000000))
    last = now
    time.sleep(0.01)
`

// TestRootCannotLeaveTheFreezer: processes that root has moved out of the users' group,
// and that thaw it, are frozen with the others, although something is mounted over the
// cgroup tree and over /proc.
func TestRootCannotLeaveTheFreezer(t *testing.T) {
	deps := hosttest.Deps(t, hosttest.Name("wqemu"))
	t.Cleanup(func() { check(t, deps.Network.(io.Closer).Close()) })
	g := newClient(t, deps)
	vm, err := deps.Drivers.Preferred().Start(t.Context(), g.cfg)
	check(t, err)
	t.Cleanup(func() { check(t, vm.Kill(context.WithoutCancel(t.Context()))) })
	check(t, g.Ready(t.Context()))
	groups := []string{"/", "/agent", "/mine"}
	_, err = g.Shell(t.Context(), "mkdir /sys/fs/cgroup/mine; cat >/tmp/gaps.py <<'END'\n"+gaps+"END\n"+
		"for g in "+strings.Join(groups, " ")+"; do setsid python3 /tmp/gaps.py $g >/tmp/log 2>&1 & done\n"+
		"for i in $(seq 600); do [ $(ls /tmp/gap_* | wc -l) = 3 ] && break; sleep 0.1; done; sleep 1\n"+
		"mount -t tmpfs none /sys/fs/cgroup; mkdir /sys/fs/cgroup/user; echo 'frozen 1' >/sys/fs/cgroup/user/cgroup.events\n"+
		"mount -t tmpfs none /proc; rm /tmp/gap_*")
	check(t, err)
	const hold = 10 * time.Second
	check(t, g.Freeze(t.Context()))
	time.Sleep(hold)
	check(t, g.Identify(t.Context()))
	for _, group := range groups {
		file := "/tmp/gap" + strings.ReplaceAll(group, "/", "_")
		out, err := g.Shell(t.Context(), "for i in $(seq 600); do [ -s "+file+" ] && break; sleep 0.1; done; cat "+file)
		check(t, err)
		if ms, err := strconv.Atoi(strings.TrimSpace(out)); err != nil || time.Duration(ms)*time.Millisecond < hold {
			t.Errorf("a process in %s has not run for %q ms at most, want at least %s", group, out, hold)
		}
	}
}
