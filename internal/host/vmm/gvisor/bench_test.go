package gvisor_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

func kill(t testing.TB, vm vmm.VM) {
	t.Helper()
	check(t, vm.Kill(context.WithoutCancel(t.Context())))
}

// BenchmarkColdStart measures the time from nothing to a guest that answers.
func BenchmarkColdStart(b *testing.B) {
	d, image := newDriver(b)
	g := newGuest(b, image)
	for b.Loop() {
		vm, err := d.Start(b.Context(), g.cfg)
		check(b, err)
		check(b, g.WaitReady(b.Context()))
		b.StopTimer()
		kill(b, vm)
		b.StartTimer()
	}
}

// savedGuest starts a guest, runs Python in it once and saves it. The original stays paused.
func savedGuest(b testing.TB, d driver, g *guest) (vm vmm.VM, from vmm.Image) {
	b.Helper()
	vm, err := d.Start(b.Context(), g.cfg)
	check(b, err)
	check(b, g.Ready(b.Context()))
	_, err = g.Shell(b.Context(), "python3 -c 'print(1)'")
	check(b, err)
	check(b, g.Freeze(b.Context()))
	check(b, vm.Pause(b.Context()))
	from = vmm.Image{Base: b.TempDir()}
	save(b, vm, from.Base)
	return vm, from
}

func save(t testing.TB, vm vmm.VM, dir string) {
	t.Helper()
	s, err := vm.BeginSave(t.Context(), dir)
	check(t, err)
	_, err = s.Finish(t.Context())
	check(t, err)
	check(t, s.Close())
}

// BenchmarkRestore measures the time from a snapshot to a guest with an identity.
func BenchmarkRestore(b *testing.B) {
	d, image := newDriver(b)
	g := newGuest(b, image)
	vm, from := savedGuest(b, d, g)
	kill(b, vm)
	for b.Loop() {
		vm, err := d.Restore(b.Context(), g.cfg, from)
		check(b, err)
		check(b, g.Identify(b.Context()))
		b.StopTimer()
		kill(b, vm)
		b.StartTimer()
	}
}

// BenchmarkPauseAndSave measures how long an idle sandbox is stopped for a
// snapshot.
func BenchmarkPauseAndSave(b *testing.B) {
	d, image := newDriver(b)
	g := newGuest(b, image)
	vm, _ := savedGuest(b, d, g)
	defer kill(b, vm)
	check(b, vm.Resume(b.Context()))
	for b.Loop() {
		dir := b.TempDir()
		check(b, vm.Pause(b.Context()))
		save(b, vm, dir)
		check(b, vm.Resume(b.Context()))
	}
}

// BenchmarkExec measures commands in a running sandbox.
func BenchmarkExec(b *testing.B) {
	d, image := newDriver(b)
	g := newGuest(b, image)
	vm, err := d.Start(b.Context(), g.cfg)
	check(b, err)
	defer kill(b, vm)
	check(b, g.Ready(b.Context()))
	for name, script := range map[string]string{"true": "true", "python": "exec python3 -c 'print(1)'"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, err := g.Shell(b.Context(), script)
				check(b, err)
			}
		})
	}
}

// BenchmarkPing measures a question to the sentry.
func BenchmarkPing(b *testing.B) {
	d, image := newDriver(b)
	g := newGuest(b, image)
	vm, err := d.Start(b.Context(), g.cfg)
	check(b, err)
	defer kill(b, vm)
	check(b, g.Ready(b.Context()))
	for b.Loop() {
		check(b, vm.Ping(b.Context()))
	}
}

// BenchmarkQuietSandbox measures the CPU time that a sandbox uses by itself in a second:
// without a command, and with one that sleeps, for which the guest watches its memory.
func BenchmarkQuietSandbox(b *testing.B) {
	d, image := newDriver(b)
	g := newGuest(b, image)
	g.cfg.MemoryMB, g.cfg.DiskMB = 512, 2048 // the defaults
	g.hostLimits(b, d.Info().Shape)
	vm, err := d.Start(b.Context(), g.cfg)
	check(b, err)
	defer kill(b, vm)
	check(b, g.Ready(b.Context()))
	for _, c := range []struct{ name, script string }{{"idle", "true"}, {"sleeping", "sleep 1000 >/dev/null 2>&1 &"}} {
		b.Run(c.name, func(b *testing.B) {
			_, err := g.Shell(b.Context(), c.script)
			check(b, err)
			time.Sleep(12 * time.Second) // the watch looks more often in the first 10 s
			used := -cpuTime(b, vm.Record().PID)
			for b.Loop() {
				time.Sleep(time.Second)
			}
			used += cpuTime(b, vm.Record().PID)
			b.ReportMetric(float64(used.Microseconds())/float64(b.N), "µs-CPU/s")
		})
	}
}

// cpuTime returns the CPU time of a sentry and its stubs.
func cpuTime(t testing.TB, sentry int) (sum time.Duration) {
	t.Helper()
	for _, pid := range tree(t, sentry) {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		check(t, err)
		for _, path := range threads {
			var used, waited, slices int64 // kernel documentation, scheduler/sched-stats
			text, err := os.ReadFile(path)
			if err != nil {
				continue // ended
			}
			if _, err := fmt.Sscan(string(text), &used, &waited, &slices); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			sum += time.Duration(used)
		}
	}
	return sum
}

// BenchmarkHold measures how long it takes to hold all user processes, and to release
// them with a new identity.
func BenchmarkHold(b *testing.B) {
	d, image := newDriver(b)
	g := newGuest(b, image)
	vm, err := d.Start(b.Context(), g.cfg)
	check(b, err)
	defer kill(b, vm)
	check(b, g.Ready(b.Context()))
	started := 0
	for _, processes := range []int{0, 5, 100} {
		_, err := g.Shell(b.Context(), fmt.Sprintf("for i in $(seq %d); do sleep 10000 >/dev/null 2>&1 & done", processes-started))
		check(b, err)
		started = processes
		b.Run(fmt.Sprint(processes), func(b *testing.B) {
			var hold, release time.Duration
			for b.Loop() {
				begin := time.Now()
				check(b, g.Freeze(b.Context()))
				held := time.Now()
				check(b, g.Identify(b.Context()))
				hold, release = hold+held.Sub(begin), release+time.Since(held)
			}
			b.ReportMetric(float64(hold.Microseconds())/float64(b.N), "µs-hold")
			b.ReportMetric(float64(release.Microseconds())/float64(b.N), "µs-release")
		})
	}
}
