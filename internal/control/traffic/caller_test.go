package traffic_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/traffic"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestStrangersKeepNobodyOut: requests without a credential to port 49983 have a few
// places of their own, and those to public ports others, so that the holder of a token
// always reaches the sandbox.
func TestStrangersKeepNobodyOut(t *testing.T) {
	t.Parallel()
	const limit = 16 // 2 of them for strangers
	began := make(chan struct{})
	w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			began <- struct{}{}
			<-r.Context().Done()
		}
	}), func(c *traffic.Config, _ *httptest.Server) { c.MaxConnections = limit })
	w.fake.programs[49983] = w.fake.programs[3000]
	fill := func(port string, places int) {
		for range places {
			r := w.request("GET", w.port(port), "/wait", nil)
			go func() {
				if res, err := w.client.Do(r); err == nil {
					_ = res.Body.Close()
				}
			}()
			<-began
		}
		refused := w.do(w.request("GET", w.port(port), "/", nil))
		w.want(refused, http.StatusTooManyRequests, "too_many_connections")
	}
	fill("49983", limit/8)
	w.want(w.do(w.request("GET", w.port("8000"), "/", nil)), http.StatusOK)
	fill("8000", limit)
	token := "X-Access-Token: " + w.fake.row.Spec.EnvdTokenOf(box)
	w.want(w.do(w.request("GET", w.port("49983"), "/", nil, token)), http.StatusOK)
	w.want(w.get("/"), http.StatusOK)
}

// TestStrangersSpeakHTTPOnly: without a token nobody gets a raw connection, or another
// protocol, to port 49983.
func TestStrangersSpeakHTTPOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, http.HandlerFunc(shout))
	w.fake.programs[49983] = w.fake.programs[3000]
	path := "/v1/sandboxes/" + string(box) + "/ports/49983/"
	headers := "\nE2b-Sandbox-Id: " + string(box) + "\nE2b-Sandbox-Port: 49983"
	const tcp, websocket = "\nConnection: Upgrade\nUpgrade: tcp", "\nConnection: Upgrade\nUpgrade: websocket"
	token := "\nX-Access-Token: " + w.fake.row.Spec.EnvdTokenOf(box)
	for head, status := range map[string]int{
		"CONNECT " + w.port("49983") + ":1 HTTP/1.1\nHost: " + w.port("49983"):                          403,
		"CONNECT x.test:80 HTTP/1.1\nHost: x.test" + headers:                                            403,
		"GET / HTTP/1.1\nHost: " + w.port("49983") + tcp:                                                403,
		"GET " + path + " HTTP/1.1\nHost: x.test" + tcp:                                                 403,
		"OPTIONS / HTTP/1.1\nHost: " + w.port("49983") + tcp + "\n" + strings.Join(question, "\n"):      403,
		"GET / HTTP/1.1\nHost: " + w.port("49983") + tcp + "\nX-Access-Token: envd_00":                  403,
		"GET / HTTP/1.1\nHost: " + w.port("49983") + websocket:                                          400,
		"OPTIONS " + path + " HTTP/1.1\nHost: x.test" + websocket + "\n" + strings.Join(question, "\n"): 400,
		"GET / HTTP/1.1\nHost: " + w.port("49983") + websocket + token:                                  101,
		"CONNECT " + w.port("49983") + ":1 HTTP/1.1\nHost: " + w.port("49983") + token:                  200,
	} {
		if _, _, res := w.upgrade(head); res.StatusCode != status {
			t.Errorf("%s:\ngot %d, want %d", head, res.StatusCode, status)
		}
	}
}

// TestStrangersAreNoUse: a request without a credential to port 49983 is passive, so that it
// neither resumes the sandbox nor keeps it from its idle timeout. A signed address of a file
// is use, like a token.
func TestStrangersAreNoUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, http.HandlerFunc(mirror))
	w.fake.programs[49983] = w.fake.programs[3000]
	token := w.fake.row.Spec.EnvdTokenOf(box)
	sign := func(operation, expiration string) string {
		parts := []string{"/a b", operation, "user", token}
		query := url.Values{"path": {"/a b"}, "username": {"user"}}
		if expiration != "" {
			parts = append(parts, expiration)
			query.Set("signature_expiration", expiration)
		}
		sum := sha256.Sum256([]byte(strings.Join(parts, ":")))
		query.Set("signature", "v1_"+base64.RawStdEncoding.EncodeToString(sum[:]))
		return "/files?" + query.Encode()
	}
	for _, c := range []struct {
		method, port, path string
		headers            []string
		passive            bool
	}{
		{"GET", "49983", "/health", nil, true},
		{"GET", "49983", "/health", []string{"X-Access-Token: envd_00"}, true},
		{"GET", "49983", "/health", []string{"X-Access-Token: " + token}, false},
		{"GET", "49983", "/health", []string{"X-Wrenn-Traffic-Token: " + w.token}, false},
		{"GET", "8000", "/", nil, false},
		{"GET", "49983", sign("read", ""), nil, false},
		{"HEAD", "49983", sign("read", "99999999999"), nil, false},
		{"POST", "49983", sign("write", ""), nil, false},
		{"POST", "49983", sign("read", ""), nil, true},
		{"GET", "49983", sign("read", "1000000000"), nil, true},
		{"GET", "49983", sign("read", "never"), nil, true},
		{"GET", "49983", sign("read", "") + "x", nil, true},
		{"GET", "49983", "/other" + sign("read", ""), nil, true},
	} {
		a := w.do(w.request(c.method, w.port(c.port), c.path, nil, c.headers...))
		if a.StatusCode != http.StatusOK || w.fake.passive != c.passive {
			t.Errorf("%s %s %s %v: got %d, passive %t; want 200, passive %t", c.method, c.port, c.path, c.headers, a.StatusCode, w.fake.passive, c.passive)
		}
	}
	w.fake.set(func(row *control.Sandbox) { row.State, row.Spec.AutoResume = sandbox.Paused, true })
	w.want(w.do(w.request("GET", w.port("49983"), sign("read", ""), nil)), http.StatusForbidden)
}

// TestCookieOfOtherPage: a browser that sends no Sec-Fetch-Site, as to addresses without
// TLS, names the page of a request in Origin.
func TestCookieOfOtherPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, http.HandlerFunc(shout))
	host, cookie := w.port(boxPort), "\nCookie: wrenn_traffic_token="+w.token+"\nConnection: Upgrade\nUpgrade: websocket"
	for origin, status := range map[string]int{
		"":                                        http.StatusSwitchingProtocols,
		"\nOrigin: http://" + host:                http.StatusSwitchingProtocols,
		"\nOrigin: https://" + host:               http.StatusSwitchingProtocols, // behind a proxy with TLS
		"\nOrigin: http://" + w.port("3001"):      http.StatusForbidden,
		"\nOrigin: http://3000-other.box.test":    http.StatusForbidden,
		"\nOrigin: null":                          http.StatusForbidden,
		"\nOrigin: http://" + host + ".evil.test": http.StatusForbidden,
	} {
		if _, _, res := w.upgrade("GET / HTTP/1.1\nHost: " + host + cookie + origin); res.StatusCode != status {
			t.Errorf("a WebSocket with %q: got %d, want %d", origin, res.StatusCode, status)
		}
	}
}
