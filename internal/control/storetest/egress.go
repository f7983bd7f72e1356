package storetest

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// testEgressCompareAndSet: each field that was read must still be so.
func testEgressCompareAndSet(t *testing.T, open Open) {
	s := open(t)
	Host(t, s, "h", 4)
	row := NewRow("h")
	row.Spec.PublicPorts = []int{80}
	row = Insert(t, s, row)
	some := sandbox.Egress{Deny: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, Allow: []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32")}}
	set := func(was control.Sandbox, to sandbox.Egress, wantWon bool) control.Sandbox {
		t.Helper()
		now, won, err := s.SetEgress(t.Context(), control.EgressChange{Was: was, Egress: to})
		if err != nil || won != wantWon {
			t.Fatalf("won %t, %v, want %t", won, err, wantWon)
		}
		return now
	}
	for name, change := range map[string]func(*control.Sandbox){
		"generation": func(r *control.Sandbox) { r.Generation++ },
		"state":      func(r *control.Sandbox) { r.State = sandbox.Paused },
		"limits":     func(r *control.Sandbox) { r.Spec.Egress = sandbox.DenyAll() },
	} {
		was := row
		change(&was)
		if now := set(was, some, false); !now.Spec.Egress.Equal(sandbox.Egress{}) {
			t.Errorf("%s: the row has the limits %+v after a change that lost", name, now.Spec.Egress)
		}
	}
	for _, to := range []sandbox.Egress{some, some, {}, sandbox.DenyAll()} {
		want := row
		want.Spec.Egress = to
		now := set(row, to, true)
		if diff := cmp.Diff(want.Spec, now.Spec, cmp.Comparer(sandbox.Egress.Equal)); diff != "" {
			t.Errorf("the row returned after a change:\n%s", diff)
		}
		read, err := s.Get(t.Context(), row.ID)
		if err != nil || !read.Spec.Egress.Equal(to) {
			t.Errorf("the row has the limits %+v, %v, want %+v", read.Spec.Egress, err, to)
		}
		row = read
	}
}
