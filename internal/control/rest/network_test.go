package rest

import (
	"net/http"
	"reflect"
	"testing"

	"github.com/wrenn-dev/wrenn/api/types"
)

// TestNetwork: a PUT replaces both lists, and a refused one changes nothing.
func TestNetwork(t *testing.T) {
	w := newWorld(t)
	sb := decode[types.Sandbox](w, w.want(w.call("POST", "/v1/sandboxes", `{"egress_deny":["198.51.100.0/24"]}`), http.StatusCreated))
	path := "/v1/sandboxes/" + sb.ID + "/network"
	has := func(when string, deny, allow []string) {
		t.Helper()
		want := types.Network{EgressDeny: deny, EgressAllow: allow}
		if got := decode[types.Network](w, w.want(w.call("GET", path, ""), http.StatusOK)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", when, got, want)
		}
	}
	has("after the create", []string{"198.51.100.0/24"}, []string{})
	for _, c := range []struct {
		body        string
		deny, allow []string
	}{
		{`{"egress_deny":["0.0.0.0/0"],"egress_allow":["203.0.113.7"]}`, []string{"0.0.0.0/0"}, []string{"203.0.113.7/32"}},
		{`{"egress_deny":["203.0.113.9/24"]}`, []string{"203.0.113.0/24"}, []string{}},
		{`{}`, []string{}, []string{}},
		{`{"egress_deny":["0.0.0.0/0"]}`, []string{"0.0.0.0/0"}, []string{}},
	} {
		got := decode[types.Network](w, w.want(w.call("PUT", path, c.body), http.StatusOK))
		if want := (types.Network{EgressDeny: c.deny, EgressAllow: c.allow}); !reflect.DeepEqual(got, want) {
			t.Errorf("PUT %s answered %+v, want %+v", c.body, got, want)
		}
		has("after "+c.body, c.deny, c.allow)
	}
	for _, body := range []string{
		``, `[]`, `{"egress_deny":"0.0.0.0/0"}`, `{"egress_deny":["example.com"]}`, `{"egress_deny":["::/0"]}`,
		`{"egress_allow":["1.1.1.1"]}`, `{"deny":[]}`, `{"public_ports":[80]}`,
	} {
		w.want(w.call("PUT", path, body), http.StatusBadRequest)
	}
	has("after refused changes", []string{"0.0.0.0/0"}, []string{})
	w.want(w.call("PUT", "/v1/sandboxes/nosuchsandbox/network", `{}`), http.StatusNotFound)
	w.want(w.call("GET", "/v1/sandboxes/nosuchsandbox/network", ""), http.StatusNotFound)
}
