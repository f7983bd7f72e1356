package control_test

import (
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestEgressIsNeverIgnored: a sandbox with limits that its host does not know of ends.
func TestEgressIsNeverIgnored(t *testing.T) {
	b := setup(t)
	if row := b.createWith(sandbox.Spec{Egress: sandbox.DenyAll()}); !row.Spec.Egress.DeniesAll() {
		t.Errorf("the row has the limits %+v", row.Spec.Egress)
	}
	b.host.unlimited = true
	_, err := b.Create(t.Context(), control.NewSandbox{Spec: request(sandbox.Spec{Egress: sandbox.DenyAll()})})
	if fault.ReasonOf(err) != "egress_unsupported" || !fault.Is(err, fault.Unsupported) {
		t.Errorf("a host that ignores limits: %v, want egress_unsupported", err)
	}
	if n := b.host.count["destroy"]; n != 1 {
		t.Errorf("%d sandboxes were destroyed, want 1", n)
	}
}
