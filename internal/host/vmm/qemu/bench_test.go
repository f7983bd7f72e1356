package qemu_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
)

// BenchmarkStart measures from the start of a VM process, its jail included, to
// the first answer of its monitor.
func BenchmarkStart(b *testing.B) {
	deps := hosttest.Deps(b, hosttest.Name("wqbench"))
	b.Cleanup(func() { check(b, deps.Network.Close()) })
	g := newGuest(b, deps)
	var starts, kills []time.Duration
	for b.Loop() {
		begun := time.Now()
		vm, err := deps.Driver.Start(b.Context(), g.Config)
		check(b, err)
		up := time.Now()
		check(b, vm.Kill(context.WithoutCancel(b.Context())))
		starts, kills = append(starts, up.Sub(begun)), append(kills, time.Since(up))
	}
	report(b, "start", starts)
	report(b, "kill", kills)
}

// report adds the fastest and the median of what was measured, which a machine
// that is busy with other things disturbs less than it does the mean.
func report(b *testing.B, what string, times []time.Duration) {
	slices.Sort(times)
	b.ReportMetric(float64(times[0].Microseconds())/1000, "min-ms/"+what)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "median-ms/"+what)
}
