package e2e

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

// testBrowserGuard: a server without keys answers no page of another site.
func testBrowserGuard(t *testing.T, s *server) {
	call(t, s.Client, "GET", "/v1/sandboxes", nil, "Host", "evil.example").wantError(t, 403, "foreign_host")
	call(t, s.Client, "POST", "/v1/sandboxes", "{}", "Origin", "http://evil.example").wantError(t, 403, "cross_origin")
	call(t, s.Client, "GET", "/v1/sandboxes", nil, "Origin", "null").wantError(t, 403, "cross_origin")
	call(t, s.Client, "GET", "/v1/sandboxes", nil, "Sec-Fetch-Site", "cross-site").wantError(t, 403, "cross_origin")
	if a := call(t, s.Client, "GET", "/v1/sandboxes", nil, "Origin", s.BaseURL); a.status != 200 {
		t.Errorf("its own pages are answered %d %s", a.status, a.body)
	}
}

// TestKeys: a server that others can reach wants keys, first to start at all,
// then from everyone.
func TestKeys(t *testing.T) {
	needVMs(t)
	t.Parallel()
	dir := dataDir(t)
	everywhere := []string{"up", "--data-dir", dir, "--listen", "0.0.0.0:0", "--network", networkRange()}
	_, stderr, err := wrenn(t, nil, everywhere...)
	if err == nil || !strings.Contains(stderr, "wrenn key create --data-dir "+dir) || !strings.Contains(stderr, "no_api_keys") {
		t.Fatalf("without keys it ended with %v:\n%s", err, stderr)
	}
	stdout, stderr, err := wrenn(t, nil, "key", "create", "--data-dir", dir, "--json", "tests")
	if err != nil {
		t.Fatalf("key create: %v: %s", err, stderr)
	}
	var made struct{ Key string }
	check(t, json.Unmarshal([]byte(stdout), &made))

	s := &server{dir: dir}
	t.Cleanup(func() { s.end(t) })
	s.process = start(t, nil, everywhere...)
	s.name = s.await(t, "sandbox network is ready")["name"].(string)
	s.Client = served(t, s.process)
	at, err := url.Parse(s.BaseURL)
	check(t, err)
	s.Client.BaseURL, s.Client.APIKey = "http://127.0.0.1:"+at.Port(), made.Key

	const all = "/v1/sandboxes"
	call(t, s.Client, "GET", all, nil).wantError(t, 401, "missing_api_key")
	call(t, s.Client, "POST", all, "{}", "X-API-Key", made.Key+"x").wantError(t, 401, "invalid_api_key")
	for _, header := range [][]string{{"X-API-Key", made.Key}, {"Authorization", "Bearer " + made.Key}} {
		if a := call(t, s.Client, "GET", all, nil, header...); a.status != 200 {
			t.Errorf("with %s: %d %s", header[0], a.status, a.body)
		}
	}
	at.Host = "127.0.0.1:" + at.Port()
	if _, stderr, err := wrenn(t, []string{"WRENN_API_KEY=" + made.Key, "WRENN_URL=" + at.String()}, "ls"); err != nil {
		t.Errorf("wrenn ls with the key: %v: %s", err, stderr)
	}
	if _, stderr, err := wrenn(t, []string{"WRENN_API_KEY=", "WRENN_URL=" + at.String()}, "ls"); err == nil || !strings.Contains(stderr, "missing_api_key") {
		t.Errorf("wrenn ls without: %v: %s", err, stderr)
	}
	if strings.Contains(s.tail(1<<20), made.Key) {
		t.Error("the log holds the key")
	}
}
