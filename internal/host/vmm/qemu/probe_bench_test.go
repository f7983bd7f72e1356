package qemu_test

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
)

// probeWindow is the rest before each sample of BenchmarkIdleProbe. The
// guest's processor halts within it, as it does between two probes of an agent.
const probeWindow = 250 * time.Millisecond

// BenchmarkIdleProbe measures the CPU time of a health probe of an idle guest: the
// ping that the host agent sends after 30 s of silence. Each round has a window
// without a probe and one of the same length with a probe. It reports
//   - vm-us/probe and agent-us/probe, the means of the additional time of the VM
//     process and of this process, which does the agent's part of it, and
//   - vm-ms/idle-min, the time of an idle VM without probes in a minute.
func BenchmarkIdleProbe(b *testing.B) {
	deps := hosttest.Deps(b, hosttest.Name("wqprobe"))
	b.Cleanup(func() { check(b, deps.Network.(io.Closer).Close()) })
	g := newClient(b, deps)
	vm, err := deps.Drivers.Preferred().Start(b.Context(), g.cfg)
	check(b, err)
	b.Cleanup(func() { check(b, vm.Kill(context.Background())) })
	check(b, g.Ready(b.Context()))
	check(b, g.Ping(b.Context())) // it leaves an idle connection, as every call does
	var idle, probed usage
	for b.Loop() {
		idle.add(b, vm.Record().PID, func() {})
		probed.add(b, vm.Record().PID, func() { check(b, g.Ping(b.Context())) })
	}
	b.ReportMetric(0, "ns/op") // it is the time of the windows
	perRound := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(b.N) }
	b.ReportMetric(perRound(probed.vm-idle.vm), "vm-us/probe")
	b.ReportMetric(perRound(probed.agent-idle.agent), "agent-us/probe")
	b.ReportMetric(float64(idle.vm.Milliseconds())*float64(time.Minute)/float64(idle.clock), "vm-ms/idle-min")
}

// usage is CPU time, and the clock's time in which it was used.
type usage struct{ vm, agent, clock time.Duration }

// add measures one window, in the middle of which ask is called.
func (u *usage) add(b *testing.B, pid int, ask func()) {
	began, vm, agent := time.Now(), onCPUs(b, pid), ownTime(b)
	time.Sleep(probeWindow / 2)
	ask()
	time.Sleep(probeWindow / 2)
	u.vm, u.agent, u.clock = u.vm+onCPUs(b, pid)-vm, u.agent+ownTime(b)-agent, u.clock+time.Since(began)
}

// onCPUs returns the CPU time of every thread of a process.
func onCPUs(b *testing.B, pid int) (sum time.Duration) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	check(b, err)
	for _, task := range tasks {
		var thread int
		_, err := fmt.Sscan(filepath.Base(task), &thread)
		check(b, err)
		sum += onCPU(b, thread)
	}
	return sum
}

// ownTime returns the user and system CPU time of this process.
func ownTime(b *testing.B) time.Duration {
	var u unix.Rusage
	check(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(unix.TimevalToNsec(u.Utime) + unix.TimevalToNsec(u.Stime))
}
