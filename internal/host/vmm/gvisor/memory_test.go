package gvisor_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestCommandsCannotUseUpTheMemory: the largest command is ended before the host's
// limit ends the sandbox; the other commands go on. Files on the disk do not count.
func TestCommandsCannotUseUpTheMemory(t *testing.T) {
	d, image := newDriver(t)
	g := newGuest(t, image)
	shape := d.Info().Shape
	limit := int64(shape.HostMemoryMB(g.cfg.MemoryMB, g.cfg.DiskMB)+shape.OverheadMB) << 20
	g.cfg.Cgroup = newGroup(t, filepath.Base(g.cfg.Network.Namespace)+"m", limit).Dir()
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
