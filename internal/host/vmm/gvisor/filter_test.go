package gvisor_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/vmm/gvisor"
)

// TestFilterIsFinished: a sentry with the driver's flags finds its system call filter
// in the program of runsc, and does not compute it.
func TestFilterIsFinished(t *testing.T) {
	d, image := newDriver(t)
	g := newGuest(t, image)
	vm, err := d.Start(t.Context(), g.cfg)
	check(t, err)
	kill(t, vm) // its bundle stays
	check(t, address(g.cfg.Network.Namespace))
	dir := t.TempDir()
	line, err := d.Driver.(*gvisor.Driver).CommandLine(dir)
	check(t, err)
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), line[0], slices.Concat(line[1:], []string{"--debug", "--debug-log=" + dir + "/"}, args)...)
		// The sandbox keeps the standard files, and a pipe would never end.
		if err := cmd.Run(); err != nil {
			t.Fatalf("runsc %s: %v", args[0], err)
		}
	}
	run("run", "--detach", "--bundle="+g.cfg.Dir, "filter")
	run("delete", "--force", "filter")
	logs, err := filepath.Glob(filepath.Join(dir, "*.boot.txt"))
	check(t, err)
	if len(logs) != 1 {
		t.Fatalf("%d logs of a sentry, want 1", len(logs))
	}
	text, err := os.ReadFile(logs[0])
	check(t, err)
	if !strings.Contains(string(text), "Loaded precompiled seccomp instructions") {
		t.Error("the sentry computed its filter: the options in tools/gvisor/precompile differ from those of the driver")
	}
}
