package main

import (
	"fmt"
	"slices"

	"github.com/wrenn-dev/wrenn/internal/host/vmm/preference"
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

// preference returns the operator's choice.
func (s runtimeSettings) preference() preference.Preference {
	p := preference.Preference{Runsc: s.runsc}
	if s.preferred != autoRuntime {
		p.Runtime = sandbox.Runtime(s.preferred)
	}
	return p
}
