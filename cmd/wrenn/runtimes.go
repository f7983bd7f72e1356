package main

import (
	"fmt"
	"slices"

	"github.com/wrenn-dev/wrenn/internal/host/vmm/kvmprobe"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// autoRuntime lets the host choose the runtime.
const autoRuntime = "auto"

// runtimeSettings choose the runtimes that the host offers.
type runtimeSettings struct {
	// preferred is the runtime of sandboxes that ask for none, or auto.
	preferred string
	// runsc is the operator's own runsc, or empty for the one that was built.
	runsc string
}

func (s *runtimeSettings) flags(f flagSet) {
	f.StringVar(&s.preferred, "runtime", autoRuntime,
		"runtime of sandboxes that ask for none: microvm, gvisor, or auto for microvm where KVM is usable and else gvisor if runsc is there")
	f.StringVar(&s.runsc, "runsc", "", "runsc of an installed gVisor release, with gvisor-bin beside it (default: the one that `make runsc` builds)")
}

func (s *runtimeSettings) validate() error {
	if s.preferred != autoRuntime && !slices.Contains(sandbox.Runtimes(), sandbox.Runtime(s.preferred)) {
		return fmt.Errorf("--runtime must be auto, microvm or gvisor, not %q", s.preferred)
	}
	return nil
}

// required reports whether the agent must not start without gVisor.
func (s runtimeSettings) required() bool {
	return s.runsc != "" || sandbox.Runtime(s.preferred) == sandbox.RuntimeGVisor
}

// prefersGVisor reports whether gVisor, if it is offered, comes before microVMs on a
// host with that result of the KVM probe.
func (s runtimeSettings) prefersGVisor(r kvmprobe.Report) bool {
	switch sandbox.Runtime(s.preferred) {
	case sandbox.RuntimeGVisor:
		return true
	case sandbox.RuntimeMicroVM:
		return false
	default:
		return !r.Support.Usable()
	}
}

// gvisorReason says in a sentence why gVisor is preferred or only offered.
func (s runtimeSettings) gvisorReason(r kvmprobe.Report) string {
	switch {
	case sandbox.Runtime(s.preferred) == sandbox.RuntimeGVisor:
		return "the host was started with --runtime gvisor"
	case sandbox.Runtime(s.preferred) == sandbox.RuntimeMicroVM:
		return "offered beside microVMs, because the host was started with --runtime microvm"
	case r.Support.Usable():
		return "offered beside microVMs, because KVM is usable"
	default:
		return "no usable KVM (" + r.Reason + "); gVisor runs code at native speed"
	}
}
