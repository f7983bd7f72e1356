package rest

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control/auth"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// TestBrowserGuard: on an open server only this machine's own programs and the
// server's own pages get in.
func TestBrowserGuard(t *testing.T) {
	w := newWorld(t)
	own, _ := url.Parse(w.url)
	for _, c := range []struct {
		name    string
		headers []string
		want    int
	}{
		{"a program", nil, 201},
		{"localhost", []string{"Host: localhost"}, 201},
		{"localhost with another port", []string{"Host: localhost:1234"}, 201},
		{"localhost in capitals", []string{"Host: LOCALHOST:8080"}, 201},
		{"rooted", []string{"Host: localhost.:8080"}, 201},
		{"another loopback address", []string{"Host: 127.9.9.9"}, 201},
		{"IPv6", []string{"Host: [::1]:8080"}, 201},
		{"IPv6 without a port", []string{"Host: [::1]"}, 201},
		{"IPv4 in IPv6", []string{"Host: [::ffff:127.0.0.1]:80"}, 201},
		{"rebound name", []string{"Host: evil.example"}, 403},
		{"rebound name with port", []string{"Host: evil.example:8080"}, 403},
		{"looks like localhost", []string{"Host: localhost.evil.example"}, 403},
		{"under localhost", []string{"Host: evil.localhost"}, 403},
		{"looks like loopback", []string{"Host: 127.0.0.1.evil.example"}, 403},
		{"another address", []string{"Host: 192.168.1.1"}, 403},
		{"any address", []string{"Host: 0.0.0.0:8080"}, 403},
		{"own page", []string{"Origin: " + w.url, "Sec-Fetch-Site: same-origin"}, 201},
		{"own page as localhost", []string{"Host: localhost:8080", "Origin: http://localhost:8080"}, 201},
		{"typed in", []string{"Sec-Fetch-Site: none"}, 201},
		{"another site", []string{"Origin: https://evil.example"}, 403},
		{"another site, new browser", []string{"Sec-Fetch-Site: cross-site"}, 403},
		{"another port", []string{"Origin: http://" + own.Hostname() + ":1"}, 403},
		{"another port, new browser", []string{"Sec-Fetch-Site: same-site"}, 403},
		{"another name of this machine", []string{"Origin: http://localhost:" + own.Port()}, 403},
		{"hidden origin", []string{"Origin: null"}, 403},
		{"empty origin", []string{"Origin: "}, 403},
		{"file", []string{"Origin: file://" + own.Host}, 403},
		{"two origins", []string{"Origin: " + w.url, "Origin: https://evil.example"}, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := *w
			w.T = t
			before := w.fake.snapshot()
			w.want(w.call("POST", "/v1/sandboxes", "{}", c.headers...), c.want)
			if c.want == 403 && w.fake.snapshot() != before {
				t.Error("it changed something")
			}
			// Paths without secrets stay open, for probes and pages. Other tests compare their
			// content with the document.
			for _, path := range []string{"/healthz", "/readyz", "/openapi.yaml", "/docs"} {
				w.want(w.fetch(w.request("GET", path, "", c.headers...)), http.StatusOK)
			}
		})
	}
}

// keys is an Authenticator that knows key -> id.
type keys map[string]string

func (k keys) Authenticate(_ context.Context, key string) (auth.Principal, error) {
	if key == "database-is-down" {
		return auth.Principal{}, fault.New(fault.Internal, "internal", "an internal error")
	}
	id, ok := k[key]
	if !ok {
		return auth.Principal{}, fault.New(fault.Unauthenticated, "invalid_api_key", "the API key is not valid")
	}
	return auth.Principal{KeyID: id}, nil
}

func TestKeys(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Access = RequireKey(keys{"good": "key-7"}) })
	for _, c := range []struct {
		name    string
		headers []string
		want    int
	}{
		{"none", nil, 401},
		{"header", []string{"X-API-Key: good"}, 200},
		{"bearer", []string{"Authorization: Bearer good"}, 200},
		{"bearer in small letters", []string{"Authorization: bearer  good"}, 200},
		{"header counts", []string{"X-API-Key: bad", "Authorization: Bearer good"}, 401},
		{"wrong", []string{"X-API-Key: bad"}, 401},
		{"empty", []string{"X-API-Key: "}, 401},
		{"basic", []string{"Authorization: Basic Z29vZA=="}, 401},
		{"bare", []string{"Authorization: good"}, 401},
		{"long", []string{"X-API-Key: " + strings.Repeat("x", maxKeyLength+1)}, 401},
		{"from another site's page", []string{"X-API-Key: good", "Origin: https://app.example"}, 200},
		{"behind a name", []string{"X-API-Key: good", "Host: sandboxes.example"}, 200},
		{"store down", []string{"X-API-Key: database-is-down"}, 500},
	} {
		for _, path := range []string{"/v1/sandboxes", "/v1/hosts"} {
			a := w.want(w.call("GET", path, "", c.headers...), c.want)
			if (a.Header.Get("WWW-Authenticate") != "") != (c.want == 401) {
				t.Errorf("%s: WWW-Authenticate is %q", c.name, a.Header.Get("WWW-Authenticate"))
			}
		}
		w.want(w.call("GET", "/healthz", "", c.headers...), http.StatusOK)
	}
	// Without a key nothing tells which sandboxes there are.
	for _, r := range []string{"GET /v1/sandboxes/abc", "DELETE /v1/sandboxes/abc", "POST /v1/sandboxes/abc/exec", "PUT /v1/sandboxes/abc/files", "POST /v1/sandboxes"} {
		method, path, _ := strings.Cut(r, " ")
		w.want(w.call(method, path, ""), http.StatusUnauthorized)
	}
	log := w.log.String()
	if !strings.Contains(log, `"principal":"key-7"`) || strings.Contains(log, "good") {
		t.Errorf("the log does not name the principal, or names the key:\n%s", log)
	}
}

func TestNewRefusesWhatIsMissing(t *testing.T) {
	full := func() Config {
		return Config{Sandboxes: newFake(), Access: OpenOnLoopback(), Log: discard()}
	}
	if _, err := New(full()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"Sandboxes": func(c *Config) { c.Sandboxes = nil },
		"Access":    func(c *Config) { c.Access = RequireKey(nil) },
		"Log":       func(c *Config) { c.Log = nil },
		"limit":     func(c *Config) { c.MaxUploadBytes = -1 },
	} {
		c := full()
		change(&c)
		if _, err := New(c); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
