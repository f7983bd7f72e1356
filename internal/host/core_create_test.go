package host_test

import (
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestCoreRepeatedCreateNamesTheRuntime: a create that is repeated after an upgrade of
// the control plane names the runtime, which the record of the first one does not.
func TestCoreRepeatedCreateNamesTheRuntime(t *testing.T) {
	c := newCore(t, fastTemp(t))
	c.single = true
	c.restart()
	ref := c.create()
	spec := coreSpec
	spec.Runtime = sandbox.RuntimeMicroVM
	if again, err := c.Create(t.Context(), ref, spec); err != nil || again.Ref != ref {
		t.Errorf("a repeated create: %+v, %v", again, err)
	}
	spec.Runtime = sandbox.RuntimeGVisor
	if _, err := c.Create(t.Context(), ref, spec); fault.ReasonOf(err) != "sandbox_exists" {
		t.Errorf("a create of the same id with another runtime: %v, want sandbox_exists", err)
	}
	if _, err := c.Create(t.Context(), newRef(), spec); fault.ReasonOf(err) != "runtime_unavailable" {
		t.Errorf("a create with a runtime that the host does not offer: %v", err)
	}
}
