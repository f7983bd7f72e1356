package gvisor_test

import (
	"strings"
	"testing"
)

// agentPID prints the path of a file of the guest agent's process.
const agentPID = `grep -lz "^agent$" /proc/[0-9]*/cmdline || true`

// TestHoldOutlivesTheAgent: users stay held when the agent is killed during a hold,
// which root can prepare, and the next agent releases them.
func TestHoldOutlivesTheAgent(t *testing.T) {
	d, image := newDriver(t)
	g := newGuest(t, image)
	vm, err := d.Start(t.Context(), g.cfg)
	check(t, err)
	t.Cleanup(func() { kill(t, vm) })
	check(t, g.Ready(t.Context()))
	startCounters(t, g, "timer:", "debugger:")
	check(t, g.Freeze(t.Context()))
	since := readCounters(t, d, g)
	agent := strings.TrimSpace(inSandbox(t, d, g, agentPID))
	number := strings.TrimSuffix(strings.TrimPrefix(agent, "/proc/"), "/cmdline")
	startInSandbox(t, d, g, "kill -9 "+number)
	for {
		if next := strings.TrimSpace(inSandbox(t, d, g, agentPID)); next != agent && next != "" {
			break
		}
	}
	check(t, g.WaitReady(t.Context()))
	stand(t, d, g, "a sandbox with its second agent", since)
	check(t, g.Identify(t.Context()))
	countAgain(t, g, "timer:", "debugger:")
}

// TestADebuggersEndReleasesNothing: a tracee whose debugger is killed during a hold, by
// a timer of its own, is held instead.
func TestADebuggersEndReleasesNothing(t *testing.T) {
	d, image := newDriver(t)
	g := newGuest(t, image)
	vm, err := d.Start(t.Context(), g.cfg)
	check(t, err)
	t.Cleanup(func() { kill(t, vm) })
	check(t, g.Ready(t.Context()))
	startCounters(t, g, "timer:", "debugger:")
	check(t, g.Freeze(t.Context()))
	const traced = `for p in $(grep -lz "^debugger$" /proc/[0-9]*/cmdline); do
		while read -r name value; do [ $name != TracerPid: ] || echo "$value ${p//[!0-9]/}"; done <${p%cmdline}status
	done`
	var debugger string
	for line := range strings.Lines(inSandbox(t, d, g, traced)) {
		if tracer, pid, _ := strings.Cut(strings.TrimSpace(line), " "); tracer == "1" {
			debugger = pid
		}
	}
	if debugger == "" {
		t.Fatal("Init traces no debugger")
	}
	startInSandbox(t, d, g, "kill -9 "+debugger)
	for {
		out := inSandbox(t, d, g, traced)
		if strings.HasPrefix(out, "1 ") && strings.Count(out, "\n") == 1 {
			break
		}
	}
	since := readCounters(t, d, g)
	stand(t, d, g, "a sandbox with a killed debugger", since)
	check(t, g.Identify(t.Context()))
	countAgain(t, g, "timer:", "debugger:")
}

// startInSandbox starts a script that may be held before it ends.
func startInSandbox(t *testing.T, d driver, g *guest, script string) {
	t.Helper()
	cmd := sandboxCommand(t.Context(), t, d, g, script)
	check(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Wait() })
}
