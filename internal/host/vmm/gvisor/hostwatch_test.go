package gvisor_test

import (
	"context"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// TestHostEndsCommands: the host ends a command that stops the agent, which watches the
// memory, and then takes all memory. The answer says so. That holds for a sandbox that
// was started, paused and resumed, restored, and adopted by a later agent of the host.
func TestHostEndsCommands(t *testing.T) {
	d, g, vm := startSized(t, 1, 256, 512)
	t.Run("started", func(t *testing.T) { hogWithoutAgent(t, g, vm) })
	t.Run("resumed", func(t *testing.T) {
		check(t, g.Freeze(t.Context()))
		check(t, vm.Pause(t.Context()))
		check(t, vm.Resume(t.Context()))
		check(t, g.Identify(t.Context()))
		hogWithoutAgent(t, g, vm)
	})
	check(t, g.Freeze(t.Context()))
	check(t, vm.Pause(t.Context()))
	from := vmm.Image{Base: t.TempDir()}
	save(t, vm, from.Base)
	kill(t, vm)
	vm, err := d.Restore(t.Context(), g.cfg, from)
	check(t, err)
	t.Cleanup(func() { check(t, d.KillRecord(context.WithoutCancel(t.Context()), vm.Record())) })
	check(t, g.Identify(t.Context()))
	t.Run("restored", func(t *testing.T) { hogWithoutAgent(t, g, vm) })
	t.Run("adopted", func(t *testing.T) {
		vm.Detach()
		next, err := hosttest.GVisor(t).Adopt(t.Context(), vm.Record())
		check(t, err)
		t.Cleanup(next.Detach)
		hogWithoutAgent(t, g, next)
	})
}

// hogWithoutAgent runs a command that takes all memory while the agent is stopped.
// Another command continues the agent once the first one has ended.
func hogWithoutAgent(t *testing.T, g *guest, vm vmm.VM) {
	t.Helper()
	_, err := g.Shell(t.Context(), `rm -f /tmp/hog
setsid sh -c 'until [ -s /tmp/hog ]; do sleep 0.05; done; read hog agent </tmp/hog
while read size rest </proc/$hog/statm && [ $size != 0 ]; do sleep 0.05; done
kill -CONT $agent' >/dev/null 2>&1 &`)
	check(t, err)
	end := g.End(t, `exec python3 -c '
import os, signal
agent = int(open("/sys/fs/cgroup/agent/cgroup.procs").read())
with open("/tmp/hog.new", "w") as f: print(os.getpid(), agent, file=f)
os.rename("/tmp/hog.new", "/tmp/hog")
os.kill(agent, signal.SIGSTOP)
held = []
while True: held.append(b"x" * (1 << 20))
'`)
	if !end.GetOom() || end.GetStatus() != "signal: killed" || !strings.Contains(end.GetError(), "memory") {
		t.Errorf("ended with %v, want killed for lack of memory", end)
	}
	alive(t, vm)
	if end := g.End(t, "kill -9 $$"); end.GetOom() {
		t.Errorf("a command that killed itself ended with %v, want no lack of memory", end)
	}
}
