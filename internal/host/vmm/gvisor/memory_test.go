package gvisor_test

import (
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
