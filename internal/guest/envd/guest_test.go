package envd

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/guest/agent/agenttest"
)

var configureSteps = []string{"load", "reseed", "clock", "renew", "hostname", "nameservers", "save", "connections", "thaw"}

func TestSealedGuestAnswersLittle(t *testing.T) {
	g := newGuest(t)
	if r := g.do(http.MethodGet, "/health", nil); r.status != http.StatusNoContent {
		t.Errorf("health: %d", r.status)
	}
	for _, path := range []string{"/envs", "/metrics", "/files?path=/etc/passwd", "/nowhere", "/process.Process/List", "/wrenn.guest.v1.Guest/Quiesce"} {
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
	c["newIdentity"] = false
	if status, out := g.call(procConfigure, c); status != http.StatusOK || out["reseeded"] != true {
		t.Fatalf("%d %v", status, out)
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
			if status, out := g.call(procConfigure, g.configuration()); status != http.StatusInternalServerError {
				t.Errorf("%d %v", status, out)
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
	for name, change := range map[string]map[string]any{
		"little entropy": {"entropy": "AAAA"},
		"old clock":      {"wallClockUnixNano": "1"},
		"hostname":       {"hostname": "a b"},
		"name server":    {"nameservers": []string{"x\noptions"}},
		"environment":    {"envs": map[string]string{"A=B": "c"}},
		"default user":   {"defaultUser": "no-such-user"},
		"user":           {"users": []map[string]any{{"name": "a:b", "home": "/", "shell": "/bin/sh"}}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			c := g.configuration()
			maps.Copy(c, change)
			if status, out := g.call(procConfigure, c); status != http.StatusBadRequest {
				t.Errorf("%d %v", status, out)
			}
			if slices.Contains(g.platform.Steps(), "thaw") {
				t.Error("user processes were thawed")
			}
		})
	}
}

func TestToken(t *testing.T) {
	g := newGuest(t).open()
	for _, token := range []string{"", "wrong", "secret2", "secre"} {
		g.token = token
		for _, path := range []string{"/envs", "/metrics", "/process.Process/List", procConfigure} {
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
	c["accessToken"] = "next"
	if status, out := g.call(procConfigure, c); status != http.StatusOK {
		t.Fatalf("%d %v", status, out)
	}
	if r := g.do(http.MethodGet, "/envs", nil); r.status != http.StatusUnauthorized {
		t.Errorf("the old token still works: %d", r.status)
	}
}

func TestQuiesceSealsAndCutsOff(t *testing.T) {
	g := newGuest(t).open()
	s := g.stream("/process.Process/Start", map[string]any{"process": map[string]any{"cmd": "sleep", "args": []string{"1000"}}})
	s.next()
	g.platform.FailAt("")
	if status, out := g.call("/wrenn.guest.v1.Guest/Quiesce", map[string]any{"syncDisk": true}); status != http.StatusOK || out["frozen"] != 3.0 {
		t.Fatalf("%d %v", status, out)
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
	g.token = ""
	g.open()
	if _, out := g.call("/process.Process/List", map[string]any{}); len(out["processes"].([]any)) != 1 {
		t.Errorf("the command did not live through it: %v", out)
	}
}

func TestFailedQuiesceLeavesTheGuestOpen(t *testing.T) {
	for _, step := range []string{"freeze", "sync", "save"} {
		g := newGuest(t).open()
		g.platform.FailAt(step)
		if status, out := g.call("/wrenn.guest.v1.Guest/Quiesce", map[string]any{"syncDisk": true}); status != http.StatusInternalServerError {
			t.Errorf("%s: %d %v", step, status, out)
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
