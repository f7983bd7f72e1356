package qemu_test

import (
	"context"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
)

// BenchmarkStart measures from the start of a VM process, its jail included, to
// the first answer of its monitor.
func BenchmarkStart(b *testing.B) {
	deps := hosttest.Deps(b, hosttest.Name("wqbench"))
	b.Cleanup(func() { check(b, deps.Network.Close()) })
	g := newGuest(b, deps)
	b.ResetTimer()
	for b.Loop() {
		vm, err := deps.Driver.Start(b.Context(), g.Config)
		check(b, err)
		b.StopTimer()
		check(b, vm.Kill(context.WithoutCancel(b.Context())))
		b.StartTimer()
	}
}
