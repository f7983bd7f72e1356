package e2b

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func TestReadMetadata(t *testing.T) {
	for text, want := range map[string]map[string]string{
		"":                              {},
		"k%25201=v%25262":               {"k 1": "v&2"}, // as recorded from a client
		"a=b&c=d%2526":                  {"a": "b", "c": "d&"},
		"plus=%252B":                    {"plus": "+"},
		"a":                             nil,
		"a=%zz":                         nil,
		"a=%25zz":                       nil,
		strings.Repeat("a=b&", 2) + "c": nil,
	} {
		got, err := readMetadata(text)
		if (err == nil) != (want != nil) || err == nil && !maps.Equal(got, want) {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
	}
}

// TestPlaces: pages in both orders hold every row once, also rows of one instant.
func TestPlaces(t *testing.T) {
	at := time.UnixMicro(1_800_000_000_000_001).UTC()
	var rows []control.Sandbox
	for _, id := range []sandbox.ID{"a", "b", "c"} {
		rows = append(rows, control.Sandbox{ID: id, State: sandbox.Running, CreatedAt: at})
	}
	after, err := parsePlace(place{at: at, id: "b"}.token())
	if err != nil {
		t.Fatal(err)
	}
	for ascending, want := range map[bool]string{true: "c", false: "a"} {
		q := listQuery{states: []string{stateRunning}, after: after, ascending: ascending}
		var got string
		for _, row := range rows {
			if q.selects(row) {
				got += string(row.ID)
			}
		}
		if got != want {
			t.Errorf("ascending %t: the page after b holds %q, want %q", ascending, got, want)
		}
	}
	for _, wrong := range []string{"!", "YQ", ""} {
		if _, err := parsePlace(wrong); err == nil {
			t.Errorf("the token %q is accepted", wrong)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		name, method string
		err          error
		status       int
		word, retry  string
	}{
		{"no room", "POST", fault.New(fault.NoCapacity, "no_capacity", "full"), 503, wordNoCapacity, "true"},
		{"a create whose host failed", "POST", fault.New(fault.HostFailed, "x", "x"), 500, wordCreateFailed, "false"},
		{"a create of unknown outcome", "POST", fault.New(fault.Timeout, "x", "x"), 504, wordPlacement, "false"},
		{"a read that failed", "GET", errors.New("x"), 500, wordInternal, "true"},
		{"a quota", "POST", fault.New(fault.Quota, "snapshot_quota", "x"), 429, "", "false"},
		{"unsupported", "POST", refuse(http.StatusNotImplemented, "", "no"), 501, "", "false"},
		{"a wrong state", "POST", fault.New(fault.WrongState, "x", "x"), 409, "", ""},
		{"interrupted", "POST", context.Canceled, 503, "", "false"},
	} {
		s := &server{}
		w, r := httptest.NewRecorder(), httptest.NewRequest(c.method, "/sandboxes", nil)
		s.fail(w, r, c.err)
		if w.Code != c.status || w.Header().Get("Should-Retry") != c.retry || (w.Header().Get("Retry-After") != "") != (c.retry != "") {
			t.Errorf("%s: status %d, headers %v, want %d and Should-Retry %q", c.name, w.Code, w.Header(), c.status, c.retry)
		}
		if body := w.Body.String(); c.word != "" && !strings.Contains(body, `"error_code":"`+c.word+`"`) {
			t.Errorf("%s: the body %s has no %s", c.name, body, c.word)
		}
	}
}

func TestBuildIDs(t *testing.T) {
	a, b := source{image: "minimal"}.buildID(), source{snapshot: "minimal"}.buildID()
	if a == b || len(a) != 36 || a[14] != '8' || a != (source{image: "minimal"}).buildID() {
		t.Errorf("the builds of an image and of a snapshot are %s and %s, want two UUIDs of version 8", a, b)
	}
}

// TestUnsupportedIsRefused: a setting that no host can carry out is never ignored.
func TestUnsupportedIsRefused(t *testing.T) {
	for name, c := range map[string]networkConfig{
		"dnsServers":  {DNSServers: []string{"1.1.1.1"}},
		"egressProxy": {EgressProxy: []byte(`{"address":"a:1"}`)},
		"rules":       {Rules: []byte(`{"a.com":[{}]}`)},
	} {
		if err := c.unsupported(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want a refusal that names it", name, err)
		}
	}
	if err := (&networkConfig{Rules: []byte("{}"), EgressProxy: []byte("null"), AllowOut: []string{}}).unsupported(); err != nil {
		t.Errorf("empty fields are refused: %v", err)
	}
}

// TestEgress: the dialect's ways to limit outgoing traffic, as ranges.
func TestEgress(t *testing.T) {
	no := false
	for name, c := range map[string]struct {
		config      *networkConfig
		internet    bool
		deny, allow string
	}{
		"nothing":               {nil, true, "[]", "[]"},
		"empty":                 {&networkConfig{}, true, "[]", "[]"},
		"no internet":           {nil, false, "[0.0.0.0/0]", "[]"},
		"no internet, update":   {&networkConfig{AllowInternet: &no}, true, "[0.0.0.0/0]", "[]"},
		"no internet, twice":    {&networkConfig{DenyOut: []string{"0.0.0.0/0"}}, false, "[0.0.0.0/0]", "[]"},
		"deny":                  {&networkConfig{DenyOut: []string{"1.1.1.1"}}, true, "[1.1.1.1]", "[]"},
		"deny and allow":        {&networkConfig{DenyOut: []string{"0.0.0.0/0"}, AllowOut: []string{"1.1.1.0/24"}}, true, "[0.0.0.0/0]", "[1.1.1.0/24]"},
		"no internet, but some": {&networkConfig{AllowOut: []string{"1.1.1.1"}}, false, "[0.0.0.0/0]", "[1.1.1.1]"},
		"allow changes nothing": {&networkConfig{AllowOut: []string{"1.1.1.1"}}, true, "[]", "[]"},
	} {
		e, err := c.config.egress(c.internet)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		deny, allow := e.Strings()
		if deny, allow := fmt.Sprint(addressesOf(deny)), fmt.Sprint(addressesOf(allow)); deny != c.deny || allow != c.allow {
			t.Errorf("%s: deny %s, allow %s, want %s and %s", name, deny, allow, c.deny, c.allow)
		}
	}
	for _, c := range []networkConfig{{DenyOut: []string{"example.com"}}, {DenyOut: []string{"0.0.0.0/0"}, AllowOut: []string{"*.example.com"}}} {
		if _, err := c.egress(true); err == nil || !strings.Contains(err.Error(), "host names") {
			t.Errorf("%v: %v, want a refusal of host names", c, err)
		}
	}
}

// TestAutoPauseMemory: a create can ask for pauses without memory at the end of its time,
// which use does not resume.
func TestAutoPauseMemory(t *testing.T) {
	const path = "/v2/sandboxes"
	for fields, status := range map[string]int{
		`"autoPause":true,"autoPauseMemory":false`:                               201,
		`"autoPause":true,"autoPauseMemory":true`:                                201,
		`"autoPauseMemory":false`:                                                400,
		`"autoPause":true,"autoPauseMemory":false,"autoResume":{"enabled":true}`: 400,
	} {
		calls := ""
		if status == 201 {
			calls = "create"
		}
		f := box(sandbox.Running)
		f.send(t, "POST", path, `{"templateID":"minimal",`+fields+`}`, status, calls)
		if want := fields == `"autoPause":true,"autoPauseMemory":false`; f.row.Spec.PauseDiskOnly != want {
			t.Errorf("%s: pauses without memory: %t, want %t", fields, f.row.Spec.PauseDiskOnly, want)
		}
	}
}

// TestNetworkOfACreate: the settings of the network reach the control plane, and getInfo
// shows them.
func TestNetworkOfACreate(t *testing.T) {
	f := box(sandbox.Running)
	f.send(t, "POST", "/v2/sandboxes",
		`{"templateID":"minimal","network":{"allowPublicTraffic":false,"maskRequestHost":"h:${PORT}","httpsPorts":[8443,9443]}}`, 201, "create")
	s := f.row.Spec
	if s.PublicTraffic || s.RequestHost != "h:${PORT}" || !s.SpeaksTLS(8443) || !s.SpeaksTLS(9443) || s.SpeaksTLS(80) {
		t.Errorf("the create asked for %+v", s)
	}
	network, _ := f.send(t, "GET", "/sandboxes/box", "", 200, "create")["network"].(map[string]any)
	if got := fmt.Sprint(network["httpsPorts"]); got != "[8443 9443]" {
		t.Errorf("getInfo shows httpsPorts %s", got)
	}
	for _, ports := range []string{"[49983]", "[0]", `["443"]`, "443", "[1.5]"} {
		box(sandbox.Running).send(t, "POST", "/v2/sandboxes", `{"templateID":"minimal","network":{"httpsPorts":`+ports+`}}`, 400, "")
	}
}

// TestUpdateNetwork: an update replaces all limits, or is refused and changes nothing.
func TestUpdateNetwork(t *testing.T) {
	for _, c := range []struct {
		body   string
		status int
		calls  string
	}{
		{`{"denyOut":["1.1.1.1","0.0.0.0/0"],"allowOut":["8.8.8.0/24"]}`, 204, "egress [1.1.1.1/32 0.0.0.0/0] [8.8.8.0/24]"},
		{`{"allow_internet_access":false}`, 204, "egress [0.0.0.0/0] []"},
		{`{"allowOut":["8.8.8.8"]}`, 204, "egress [] []"},
		{`{"dnsServers":[],"rules":{},"egressProxy":null}`, 204, "egress [] []"},
		{`{}`, 204, "egress [] []"},
		{`{"denyOut":["example.com"]}`, 400, ""},
		{`{"denyOut":["0.0.0.0/0"],"allowOut":["*.example.com"]}`, 400, ""},
		{`{"denyOut":"0.0.0.0/0"}`, 400, ""},
		{`{"dnsServers":["1.1.1.1"]}`, 400, ""},
		{`{"rules":{"a.com":[{}]}}`, 400, ""},
		{`{"egressProxy":{"address":"a:1"}}`, 400, ""},
		{`{"allowPublicTraffic":false}`, 400, ""},
		{`{"maskRequestHost":"a"}`, 400, ""},
		{`{"httpsPorts":[8443]}`, 400, ""},
		{`{"httpsPorts":[]}`, 400, ""},
	} {
		box(sandbox.Running).send(t, "PUT", "/sandboxes/box/network", c.body, c.status, c.calls)
	}
	box(sandbox.Paused).send(t, "PUT", "/sandboxes/box/network", `{}`, 409, "")
}

// TestOtherPathsPass: requests that are not of the dialect reach the next handler.
func TestOtherPathsPass(t *testing.T) {
	h := New(Config{
		Enter: func(r *http.Request) (context.Context, error) {
			return r.Context(), fault.New(fault.Unauthenticated, "missing_api_key", "no key")
		},
		Next: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }),
		Log:  quiet(),
	})
	for path, want := range map[string]int{
		"/": 418, "/v1/sandboxes": 418, "/docs": 418, "/healthz": 418, "/sandboxesx": 418,
		"/health": 204, "/sandboxes": 401, "/v2/sandboxes": 401, "/v2/nothing": 404,
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != want {
			t.Errorf("%s: status %d, want %d", path, w.Code, want)
		}
	}
}
