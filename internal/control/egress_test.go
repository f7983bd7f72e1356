package control_test

import (
	"context"
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

// TestSetEgress: the row and the host get new limits, whether the sandbox runs or is
// paused, and a fork inherits them.
func TestSetEgress(t *testing.T) {
	b := setup(t)
	row := b.createWith(sandbox.Spec{})
	has := func(when string, id sandbox.ID, want sandbox.Egress) {
		t.Helper()
		now, err := b.Get(t.Context(), id)
		if err != nil || !now.Spec.Egress.Equal(want) {
			t.Errorf("%s: the row has the limits %+v, %v, want %+v", when, now.Spec.Egress, err, want)
		}
		if got := b.host.seen(t, id).Spec.Egress; !got.Equal(want) {
			t.Errorf("%s: the host has the limits %+v, want %+v", when, got, want)
		}
	}
	for _, limits := range []sandbox.Egress{sandbox.DenyAll(), {}, sandbox.DenyAll()} {
		now, err := b.SetEgress(t.Context(), row.ID, limits)
		if err != nil || !now.Spec.Egress.Equal(limits) {
			t.Fatalf("SetEgress: %+v, %v", now.Spec.Egress, err)
		}
		has("running", row.ID, limits)
	}
	forked, err := b.Fork(t.Context(), row.ID, control.Fork{Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	has("a fork", forked.Sandboxes[0].ID, sandbox.DenyAll())
	if _, err := b.Pause(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	some, err := sandbox.ParseEgress([]string{"203.0.113.0/24"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.SetEgress(t.Context(), row.ID, some); err != nil {
		t.Fatal(err)
	}
	has("paused", row.ID, some)
	bad := sandbox.Egress{Allow: some.Deny}
	if _, err := b.SetEgress(t.Context(), row.ID, bad); fault.ReasonOf(err) != "invalid_egress" {
		t.Errorf("exceptions from nothing: %v, want invalid_egress", err)
	}
	has("after a refusal", row.ID, some)
	if err := b.Destroy(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := b.SetEgress(t.Context(), row.ID, sandbox.Egress{}); !fault.Is(err, fault.WrongState) {
		t.Errorf("limits of an ended sandbox: %v, want a wrong state", err)
	}
	if _, err := b.SetEgress(t.Context(), "nosuch", sandbox.Egress{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("limits of no sandbox: %v, want not found", err)
	}
}

// TestSetEgressHeals: a change that the host has not confirmed reaches it with the next
// pass, or before the next resume.
func TestSetEgressHeals(t *testing.T) {
	for name, heal := range map[string]func(*bundle, sandbox.ID){
		"the next pass": func(b *bundle, _ sandbox.ID) { b.reconcile() },
		"the next resume": func(b *bundle, id sandbox.ID) {
			if _, err := b.Resume(b.t.Context(), id); err != nil {
				b.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			row := b.createWith(sandbox.Spec{})
			if name == "the next resume" {
				if _, err := b.Pause(t.Context(), row.ID); err != nil {
					t.Fatal(err)
				}
			}
			b.host.before["egress"] = lost
			if _, err := b.SetEgress(t.Context(), row.ID, sandbox.DenyAll()); fault.ReasonOf(err) != "egress_pending" {
				t.Fatalf("a change that is lost: %v, want egress_pending", err)
			}
			if b.host.seen(t, row.ID).Spec.Egress.Limited() {
				t.Fatal("the change was not lost")
			}
			delete(b.host.before, "egress")
			b.host.before["resume"] = func(context.Context, sandbox.Ref) error {
				if !b.host.vms[row.ID].Spec.Egress.DeniesAll() {
					t.Error("the sandbox is resumed before its host has the limits")
				}
				return nil
			}
			heal(b, row.ID)
			if got := b.host.seen(t, row.ID).Spec.Egress; !got.DeniesAll() {
				t.Errorf("after %s the host has the limits %+v", name, got)
			}
			if now, err := b.Get(t.Context(), row.ID); err != nil || now.State != sandbox.Running || !now.Spec.Egress.DeniesAll() {
				t.Errorf("after %s the row is %s with %+v, %v", name, now.State, now.Spec.Egress, err)
			}
		})
	}
}

// TestSetEgressOfAnEarlierAgent: an agent that cannot change limits keeps the old ones, and
// so does the row, also if the server ends before it can undo the change.
func TestSetEgressOfAnEarlierAgent(t *testing.T) {
	b := setup(t)
	row := b.createWith(sandbox.Spec{})
	b.host.unlimited = true
	_, err := b.SetEgress(t.Context(), row.ID, sandbox.DenyAll())
	if fault.ReasonOf(err) != "egress_unsupported" || !fault.Is(err, fault.Unsupported) {
		t.Errorf("SetEgress: %v, want egress_unsupported", err)
	}
	keeps := func(when string) {
		t.Helper()
		if now, err := b.Get(t.Context(), row.ID); err != nil || now.State != sandbox.Running || now.Spec.Egress.Limited() {
			t.Errorf("%s the row is %s with the limits %+v, %v, want it as it was", when, now.State, now.Spec.Egress, err)
		}
	}
	keeps("after the refusal")
	row, err = b.Get(t.Context(), row.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, won, err := b.store.SetEgress(t.Context(), control.EgressChange{Was: row, Egress: sandbox.DenyAll()}); err != nil || !won {
		t.Fatal(won, err)
	}
	b.reconcile()
	keeps("after a pass")
}

// seen returns the sandbox as the host knows it.
func (h *fakeHost) seen(t *testing.T, id sandbox.ID) control.ObservedSandbox {
	t.Helper()
	v, err := h.Sandbox(t.Context(), id)
	if err != nil || v == nil {
		t.Fatalf("the host does not know the sandbox %s: %v", id, err)
	}
	return *v
}
