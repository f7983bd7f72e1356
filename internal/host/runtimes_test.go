package host_test

import (
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// onEachRuntime runs test for hosts whose VMs are of either kind.
func onEachRuntime(t *testing.T, test func(*testing.T, sandbox.Runtime)) {
	t.Helper()
	for _, r := range []sandbox.Runtime{sandbox.RuntimeMicroVM, sandbox.RuntimeGVisor} {
		t.Run(string(r), func(t *testing.T) { test(t, r) })
	}
}

// newBenchOf is newBench for a host with that runtime.
func newBenchOf(t *testing.T, r sandbox.Runtime, name string, configure ...func(*host.Config)) *bench {
	t.Helper()
	b := unopenedBench(t, r, name)
	b.configure = func(cfg *host.Config) {
		for _, change := range configure {
			change(cfg)
		}
	}
	b.open()
	t.Cleanup(b.end)
	return b
}

// unopenedBench is a host with that runtime, without an agent.
func unopenedBench(t *testing.T, r sandbox.Runtime, name string) *bench {
	t.Helper()
	b := &bench{t: t, name: hosttest.Name(name), dir: hosttest.Dir(t), templates: hosttest.TemplateDir(), runtime: r}
	b.driver = driverOf(t, r)
	return b
}

// driverOf makes the driver of a runtime; nil stands for the usual one.
func driverOf(t *testing.T, r sandbox.Runtime) func() vmm.Driver {
	t.Helper()
	if r != sandbox.RuntimeGVisor {
		return nil
	}
	driver := hosttest.GVisor(t)
	return func() vmm.Driver { return driver }
}
