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
	b.host.after["create"] = lost
	_, err = b.Create(t.Context(), control.NewSandbox{Name: "lost", Spec: request(sandbox.Spec{Egress: sandbox.DenyAll()})})
	if !control.OutcomeUnknown(err) {
		t.Fatalf("a create whose answer is lost: %v", err)
	}
	b.reconcile()
	b.reconcile()
	rows, _, err := b.List(t.Context(), control.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if row.Name == "lost" && row.StopReason != sandbox.ReasonBootFailed {
			t.Errorf("after a lost answer the sandbox is %s (%s), want the end of its create", row.State, row.StopReason)
		}
	}
	if n := b.host.count["destroy"]; n != 2 {
		t.Errorf("%d sandboxes were destroyed, want 2", n)
	}
}
