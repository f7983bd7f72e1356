package sandbox_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func TestParseEgress(t *testing.T) {
	e, err := sandbox.ParseEgress([]string{"0.0.0.0/0", "192.0.2.77/24"}, []string{"198.51.100.7"})
	if err != nil {
		t.Fatal(err)
	}
	deny, allow := e.Strings()
	if !slices.Equal(deny, []string{"0.0.0.0/0", "192.0.2.0/24"}) || !slices.Equal(allow, []string{"198.51.100.7/32"}) || !e.DeniesAll() {
		t.Errorf("got deny %v, allow %v", deny, allow)
	}
	for _, bad := range []string{"", "example.com", "1.2.3.4/33", "::/0", "::ffff:1.2.3.4", "1.2.3.4 ", "010.0.0.1", "1.2.3.4%eth0"} {
		if _, err := sandbox.ParseEgress([]string{bad}, nil); fault.ReasonOf(err) != "invalid_egress" {
			t.Errorf("%q: %v, want invalid_egress", bad, err)
		}
	}
}

func TestEgressIsValidated(t *testing.T) {
	many := make([]string, sandbox.MaxEgressRanges+1)
	for i := range many {
		many[i] = "192.0.2.1"
	}
	for name, lists := range map[string][2][]string{"too many": {many, nil}, "nothing denied": {nil, {"192.0.2.1"}}} {
		spec := sandbox.Spec{}.WithDefaults()
		var err error
		if spec.Egress, err = sandbox.ParseEgress(lists[0], lists[1]); err != nil {
			t.Fatal(err)
		}
		if err := spec.Validate(); fault.ReasonOf(err) != "invalid_egress" {
			t.Errorf("%s: %v, want invalid_egress", name, err)
		}
	}
	spec := sandbox.Spec{Egress: sandbox.DenyAll()}.WithDefaults()
	if err := spec.Validate(); err != nil || !spec.Copied(nil).Egress.DeniesAll() {
		t.Errorf("a copy of a limited sandbox has the limits %+v (%v)", spec.Copied(nil).Egress, err)
	}
}

// TestEgressIsStored: rows and records hold the ranges as text.
func TestEgressIsStored(t *testing.T) {
	e, err := sandbox.ParseEgress([]string{"0.0.0.0/0"}, []string{"192.0.2.1"})
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var back sandbox.Egress
	if err := json.Unmarshal(data, &back); err != nil || string(data) != `{"Deny":["0.0.0.0/0"],"Allow":["192.0.2.1/32"]}` {
		t.Fatalf("%s: %v", data, err)
	}
	if diff := cmp.Diff(e, back); diff != "" {
		t.Error(diff)
	}
}
