package gvisor_test

import (
	"strconv"
	"strings"
	"testing"
)

// TestCommandsCannotUseUpTheMemory: the largest command is ended before the host's
// limit ends the sandbox; the other commands go on. Files on the disk do not count.
func TestCommandsCannotUseUpTheMemory(t *testing.T) {
	d, image := newDriver(t)
	g := newGuest(t, image)
	g.hostLimits(t, d.Info().Shape)
	vm, err := d.Start(t.Context(), g.cfg)
	check(t, err)
	t.Cleanup(func() { kill(t, vm) })
	check(t, g.Ready(t.Context()))
	_, err = g.Shell(t.Context(), "dd if=/dev/zero of=/root/large bs=1M count=400 2>/dev/null")
	check(t, err)
	before, err := g.Count(t.Context())
	check(t, err)
	for range 3 {
		out, err := g.Shell(t.Context(), `python3 -c '
held = []
while True: held.append(b"x" * (1 << 20))
'`)
		if err == nil || !strings.Contains(err.Error(), "exit code") {
			t.Fatalf("a command that takes all memory: %q, %v; want it ended", out, err)
		}
	}
	after, err := g.Count(t.Context())
	check(t, err)
	if after < before {
		t.Errorf("the counter of another command went from %d to %d", before, after)
	}
}

// TestCommandsCannotUseUpTheProcesses: users reach the limit of their guest, and not
// that of the host, at which the sandbox would end.
func TestCommandsCannotUseUpTheProcesses(t *testing.T) {
	d, image := newDriver(t)
	for name, script := range map[string]string{
		"processes": "import os\nwhile os.fork(): pass\nos.execv('/bin/sleep', ['sleep', '1000'])",
		"threads":   "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()",
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t, image)
			g.hostLimits(t, d.Info().Shape)
			vm, err := d.Start(t.Context(), g.cfg)
			check(t, err)
			t.Cleanup(func() { kill(t, vm) })
			check(t, g.Ready(t.Context()))
			_, err = g.Shell(t.Context(), "dd if=/dev/zero of=/root/large bs=1M count=500 2>/dev/null")
			check(t, err)
			for range 2 {
				if out, err := g.Shell(t.Context(), "python3 -c \""+script+"\" 2>&1; r=$?; pgrep -c sleep; pkill sleep; exit $r"); err == nil {
					t.Errorf("a command that takes all %s succeeds: %q", name, out)
				}
				if out, err := g.Shell(t.Context(), "echo alive"); err != nil || out != "alive\n" {
					t.Fatalf("a command afterwards: %q, %v; the VM: %+v", out, err, vm.Exit())
				}
			}
		})
	}
}

// full is a command that has every process that it can get, and stays.
const full = `mkfifo /tmp/full
setsid python3 -c '
import os, time
try:
	while True:
		if os.fork() == 0: os.execv("/bin/sleep", ["sleep", "1000"])
except OSError: open("/tmp/full", "w").close()
time.sleep(1000)
' & read none </tmp/full; exit 0`

// TestCommandsLeaveProcessesToOthers: beside a command that has every process that it can
// get, others can be started and can start processes.
func TestCommandsLeaveProcessesToOthers(t *testing.T) {
	_, g, _ := startSized(t, 1, 256, 2048)
	_, err := g.Shell(t.Context(), full)
	check(t, err)
	if out, err := g.Shell(t.Context(), "/bin/echo one; /bin/echo two; exit 0"); err != nil || out != "one\ntwo\n" {
		t.Errorf("a command beside one that has all processes: %q, %v", out, err)
	}
	out, err := g.Shell(t.Context(), "pkill -c sleep; exit 0")
	if n, _ := strconv.Atoi(strings.TrimSpace(out)); err != nil || n < 300 {
		t.Errorf("%q processes were there (%v), want more than 300", out, err)
	}
}

// TestCommandsCannotUseUpTheSentry: a command that fills what the sentry keeps in its
// own heap, or a file system in memory, is ended before the sandbox is.
func TestCommandsCannotUseUpTheSentry(t *testing.T) {
	d, image := newDriver(t)
	for name, script := range map[string]string{
		"pipes": `import fcntl, os
held = []
while True:
    held.append(os.pipe())
    fcntl.fcntl(held[-1][1], 1031, 1 << 20)  # F_SETPIPE_SZ
    os.write(held[-1][1], bytes(1 << 20))`,
		"attributes": `import os
for n in range(1 << 20):
    open("/root/%d" % n, "w").close()
    for a in range(16): os.setxattr("/root/%d" % n, "user.%d" % a, bytes(60000))`,
		"cgroups": `import os
for n in range(1 << 20): os.mkdir("/sys/fs/cgroup/user/%d" % n)`,
		"a file system": `import os
os.mkdir("/m")
os.system("mount -t tmpfs -o size=64G none /m")
with open("/m/large", "wb") as f:
    while True: f.write(os.urandom(1 << 20))`,
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t, image)
			g.hostLimits(t, d.Info().Shape)
			vm, err := d.Start(t.Context(), g.cfg)
			check(t, err)
			t.Cleanup(func() { kill(t, vm) })
			check(t, g.Ready(t.Context()))
			if out, err := g.Shell(t.Context(), "python3 -c '"+script+"'"); err == nil || !strings.Contains(err.Error(), "exit code -1") {
				t.Errorf("a command that fills %s: %q, %v; want it killed", name, out, err)
			}
			if out, err := g.Shell(t.Context(), "echo alive"); err != nil || out != "alive\n" {
				t.Fatalf("a command afterwards: %q, %v; the VM: %+v", out, err, vm.Exit())
			}
		})
	}
}
