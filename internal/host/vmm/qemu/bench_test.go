package qemu_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/qemu"
)

// BenchmarkStart measures a VM process from its start to the first answer of its
// monitor, and from the signal that ends it to its end, in the jail and without
// one in turn. The difference of the start times is the jail's cost for a create;
// it may be 5 ms.
func BenchmarkStart(b *testing.B) {
	deps := hosttest.Deps(b, hosttest.Name("wqbench"))
	b.Cleanup(func() { check(b, deps.Network.(io.Closer).Close()) })
	g := newGuest(b, deps)
	var jailed, plain times
	for b.Loop() {
		jailed.add(b, g.Config, deps.Drivers.Preferred().Start)
		plain.add(b, g.Config, deps.Drivers.Preferred().(*qemu.Driver).StartUnjailed)
	}
	b.ReportMetric(0, "ns/op") // the sum of both says nothing
	jailed.report(b, "jailed")
	plain.report(b, "plain")
}

// times are the clock's and, of the process's first thread, which is the
// launcher's too, the time on a CPU until it answered.
type times struct{ start, kill, cpu []time.Duration }

func (t *times) add(b *testing.B, cfg vmm.Config, start func(context.Context, vmm.Config) (vmm.VM, error)) {
	begun := time.Now()
	vm, err := start(b.Context(), cfg)
	check(b, err)
	up := time.Now()
	t.cpu = append(t.cpu, onCPU(b, vm.Record().PID))
	check(b, vm.Kill(context.WithoutCancel(b.Context())))
	t.start, t.kill = append(t.start, up.Sub(begun)), append(t.kill, time.Since(up))
}

// report gives the fastest and the median, which a machine that is busy with
// other things disturbs less than it does the mean.
func (t *times) report(b *testing.B, name string) {
	for what, list := range map[string][]time.Duration{"start": t.start, "kill": t.kill, "cpu": t.cpu} {
		slices.Sort(list)
		b.ReportMetric(float64(list[0].Microseconds())/1000, "min-ms/"+what+"/"+name)
		b.ReportMetric(float64(list[len(list)/2].Microseconds())/1000, "median-ms/"+what+"/"+name)
	}
}

// onCPU reads the first number of /proc/PID/schedstat (Linux,
// scheduler/sched-stats.rst), in nanoseconds.
func onCPU(b *testing.B, pid int) (d time.Duration) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	check(b, err)
	_, err = fmt.Sscan(string(text), &d)
	check(b, err)
	return d
}
