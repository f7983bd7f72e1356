package envd

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/agent/agenttest"
)

var configureSteps = []string{"load", "reseed", "clock", "renew", "hostname", "nameservers", "save", "connections", "thaw"}

func TestSealedGuestAnswersLittle(t *testing.T) {
	g := newGuest(t)
	if r := g.do(http.MethodGet, "/health", nil); r.status != http.StatusNoContent {
		t.Errorf("health: %d", r.status)
	}
	for _, path := range []string{"/envs", "/metrics", "/files?path=/etc/passwd", "/nowhere", "/process.Process/List"} {
		r := g.do(http.MethodGet, path, nil)
		if r.status != http.StatusServiceUnavailable || !strings.Contains(r.body, `"code":503`) {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
}

func TestConfigureOrder(t *testing.T) {
	g := newGuest(t).open()
	if got := g.platform.Steps(); !slices.Equal(got, configureSteps) {
		t.Errorf("got %v, want %v", got, configureSteps)
	}
}

func TestResumeKeepsIdentity(t *testing.T) {
	g := newGuest(t)
	c := g.configuration()
	c.NewIdentity = false
	if err := g.configure(c); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(g.platform.Steps(), "renew") {
		t.Error("a resume made a new identity")
	}
}

func TestConfigureFailsClosed(t *testing.T) {
	for i, step := range configureSteps[1:] {
		t.Run(step, func(t *testing.T) {
			g := newGuest(t)
			g.platform.FailAt(step)
			if err := g.configure(g.configuration()); err == nil {
				t.Error("configure succeeded")
			}
			if got, want := g.platform.Steps(), configureSteps[1:i+2]; !slices.Equal(got, want) {
				t.Errorf("steps %v, want %v: nothing may come after the failure", got, want)
			}
			if r := g.do(http.MethodGet, "/envs", nil); r.status != http.StatusServiceUnavailable {
				t.Errorf("the guest is open: %d", r.status)
			}
			g.platform.FailAt("")
			g.open()
		})
	}
}

func TestConfigureChecksItsInput(t *testing.T) {
	for name, c := range map[string]struct {
		change *guestv1.ConfigureRequest
		reason string
	}{
		"little entropy": {&guestv1.ConfigureRequest{Entropy: make([]byte, 31)}, "invalid_configure"},
		"much entropy":   {&guestv1.ConfigureRequest{Entropy: make([]byte, 4097)}, "invalid_configure"},
		"hostname":       {&guestv1.ConfigureRequest{Hostname: "a b"}, "invalid_configure"},
		"name server":    {&guestv1.ConfigureRequest{Nameservers: []string{"x\noptions"}}, "invalid_configure"},
		"environment":    {&guestv1.ConfigureRequest{Envs: map[string]string{"A=B": "c"}}, "invalid_env"},
		"token":          {&guestv1.ConfigureRequest{EnvdToken: strings.Repeat("x", 5000)}, "invalid_configure"},
		"old clock":      {&guestv1.ConfigureRequest{WallClockUnixNano: 1}, "invalid_configure"},
		"user":           {&guestv1.ConfigureRequest{Users: []*guestv1.User{{Name: "a:b", Home: "/", Shell: "/bin/sh"}}}, "invalid_user"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			in := g.configuration()
			proto.Merge(in, c.change)
			if err := g.configure(in); !fault.Is(err, fault.Invalid) || fault.ReasonOf(err) != c.reason {
				t.Errorf("got %v (%s), want Invalid %s", err, fault.ReasonOf(err), c.reason)
			}
			if slices.Contains(g.platform.Steps(), "thaw") {
				t.Error("user processes were thawed")
			}
		})
	}
}

func TestToken(t *testing.T) {
	g := newGuest(t).open()
	for _, token := range []string{"", "wrong", "secret2", "secre", hostToken} {
		g.token = token
		for _, path := range []string{"/envs", "/metrics", "/process.Process/List", "/nowhere"} {
			r := g.do(http.MethodGet, path, nil)
			if r.status != http.StatusUnauthorized || !strings.Contains(r.body, `"code":401`) {
				t.Errorf("token %q: %s: %d %s", token, path, r.status, r.body)
			}
		}
	}
	g.token = "secret"
	if r := g.do(http.MethodGet, "/envs", nil); r.status != http.StatusOK || r.body != `{"FROM":"sandbox"}` {
		t.Errorf("%d %s", r.status, r.body)
	}
	c := g.configuration()
	c.EnvdToken = "next"
	if err := g.configure(c); err != nil {
		t.Fatal(err)
	}
	if r := g.do(http.MethodGet, "/envs", nil); r.status != http.StatusUnauthorized {
		t.Errorf("the old token still works: %d", r.status)
	}
}

// TestGuestWithoutTokenIsClosed: the control plane lets everyone reach the port, so that a
// guest that was given no token must refuse all requests that need one.
func TestGuestWithoutTokenIsClosed(t *testing.T) {
	g := newGuest(t)
	c := g.configuration()
	c.EnvdToken = ""
	if err := g.configure(c); err != nil {
		t.Fatal(err)
	}
	unsigned := url.Values{"path": {"/etc/passwd"}, "signature": {signature("/etc/passwd", operationRead, "", "", "")}}
	for _, token := range []string{"", hostToken} {
		g.token = token
		for _, path := range []string{"/envs", "/metrics", "/process.Process/List", "/files?path=/etc/passwd", "/files?" + unsigned.Encode()} {
			if r := g.do(http.MethodGet, path, nil); r.status != http.StatusUnauthorized {
				t.Errorf("token %q: GET %s: got %d %s, want 401", token, path, r.status, r.body)
			}
		}
	}
}

// TestPublicServerHasNoHostCalls: the calls of the host agent are served on the control
// channel alone.
func TestPublicServerHasNoHostCalls(t *testing.T) {
	g := newGuest(t).open()
	for _, path := range []string{"/wrenn.guest.v1.Guest/Configure", "/wrenn.guest.v1.Guest/Quiesce", "/init", "/freeze"} {
		r := g.do(http.MethodPost, path, strings.NewReader("{}"), "Content-Type", "application/json")
		if r.status != http.StatusNotFound || !strings.Contains(r.body, `"code":404`) {
			t.Errorf("POST %s: got %d %s, want 404", path, r.status, r.body)
		}
	}
}

func TestQuiesceSealsAndCutsOff(t *testing.T) {
	g := newGuest(t).open()
	s := g.stream("/process.Process/Start", map[string]any{"process": map[string]any{"cmd": "sleep", "args": []string{"1000"}}})
	s.next()
	g.platform.FailAt("")
	if out, err := g.agent.Quiesce(t.Context(), &guestv1.QuiesceRequest{SyncDisk: true}); err != nil || out.GetFrozen() != 3 {
		t.Fatalf("%v %v", out, err)
	}
	if got, want := g.platform.Steps(), []string{"freeze", "sync", "save"}; !slices.Equal(got, want) {
		t.Errorf("steps %v, want %v", got, want)
	}
	if g.platform.Settings() != nil {
		t.Error("the token was kept")
	}
	s.untilEnd()
	if r := g.do(http.MethodGet, "/envs", nil); r.status != http.StatusServiceUnavailable {
		t.Errorf("not sealed: %d", r.status)
	}
	g.open()
	if _, out := g.call("/process.Process/List", map[string]any{}); len(out["processes"].([]any)) != 1 {
		t.Errorf("the command did not live through it: %v", out)
	}
}

func TestFailedQuiesceLeavesTheGuestOpen(t *testing.T) {
	for _, step := range []string{"freeze", "sync", "save"} {
		g := newGuest(t).open()
		g.platform.FailAt(step)
		if _, err := g.agent.Quiesce(t.Context(), &guestv1.QuiesceRequest{SyncDisk: true}); err == nil {
			t.Errorf("%s: quiesce succeeded", step)
		}
		if !slices.Contains(g.platform.Steps(), "thaw") {
			t.Errorf("%s: user processes stay frozen", step)
		}
		if r := g.do(http.MethodGet, "/envs", nil); r.status != http.StatusOK {
			t.Errorf("%s: %d", step, r.status)
		}
	}
}

func TestRestartedAgent(t *testing.T) {
	g := newGuest(t).open()
	saved := g.platform.Settings()
	g.serve(agenttest.NewPlatform(saved))
	if r := g.do(http.MethodGet, "/envs", nil); r.status != http.StatusOK || r.body != `{"FROM":"sandbox"}` {
		t.Errorf("an open guest: %d %s", r.status, r.body)
	}
	unreadable := agenttest.NewPlatform(saved)
	unreadable.FailAt("load")
	for name, p := range map[string]*agenttest.Platform{
		"nothing": agenttest.NewPlatform(nil), "half a record": agenttest.NewPlatform(saved[:20]), "unreadable": unreadable,
	} {
		g.serve(p)
		if r := g.do(http.MethodGet, "/envs", nil); r.status != http.StatusServiceUnavailable {
			t.Errorf("%s: %d", name, r.status)
		}
	}
}

func TestCORS(t *testing.T) {
	g := newGuest(t).open()
	g.token = ""
	r := g.do(http.MethodOptions, "/files", nil, "Origin", "https://example.org", "Access-Control-Request-Method", "POST")
	if r.status != http.StatusNoContent || r.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%d %v", r.status, r.header)
	}
}
