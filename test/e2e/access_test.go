package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/client"
	"github.com/wrenn-dev/wrenn/internal/certs/certstest"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
)

// TestNoAuth: with --no-auth programs on this machine need no key, and no page
// of another site is answered.
func TestNoAuth(t *testing.T) {
	t.Parallel()
	s := startUp(t, "--no-auth")
	s.await(t, "the API is open: with --no-auth everyone on this machine may use every sandbox")
	s.Client.APIKey = ""
	call(t, s.Client, "GET", "/v1/sandboxes", nil, "Host", "evil.example").wantError(t, 403, "foreign_host")
	call(t, s.Client, "POST", "/v1/sandboxes", "{}", "Origin", "http://evil.example").wantError(t, 403, "cross_origin")
	call(t, s.Client, "GET", "/v1/sandboxes", nil, "Origin", "null").wantError(t, 403, "cross_origin")
	call(t, s.Client, "GET", "/v1/sandboxes", nil, "Sec-Fetch-Site", "cross-site").wantError(t, 403, "cross_origin")
	if a := call(t, s.Client, "GET", "/v1/sandboxes", nil, "Origin", s.BaseURL); a.status != 200 {
		t.Errorf("its own pages are answered %d %s", a.status, a.body)
	}
}

// TestKeys: a server on an address other than loopback requires TLS. Every
// server requires a key, makes one for this machine, and honors keys that are
// made and revoked while it runs.
func TestKeys(t *testing.T) {
	needVMs(t)
	t.Parallel()
	dir := dataDir(t)
	everywhere := []string{"up", "--data-dir", dir, "--listen", "0.0.0.0:0", "--network", hosttest.Range(t)}
	_, stderr, err := wrenn(t, nil, everywhere...)
	if err == nil || !strings.Contains(stderr, "clear text") || !strings.Contains(stderr, "--tls-cert") {
		t.Fatalf("without a certificate it ended with %v:\n%s", err, stderr)
	}
	ca := certstest.New(t, "ca")
	cert, key := ca.Issue(t, "api")
	s := startKeyed(t, dir, append(everywhere, "--tls-cert", cert, "--tls-key", key), ca.File)

	const all = "/v1/sandboxes"
	nobody := *s.Client
	nobody.APIKey = ""
	call(t, &nobody, "GET", all, nil).wantError(t, 401, "missing_api_key")
	call(t, &nobody, "POST", all, "{}", "X-API-Key", s.APIKey+"x").wantError(t, 401, "invalid_api_key")
	for _, header := range [][]string{{"X-API-Key", s.APIKey}, {"Authorization", "Bearer " + s.APIKey}} {
		if a := call(t, &nobody, "GET", all, nil, header...); a.status != 200 {
			t.Errorf("with %s: %d %s", header[0], a.status, a.body)
		}
	}
	renewed(t, s, ca)
	keysWhileRunning(t, s, &nobody)
	commandLineFindsTheKey(t, s, ca.File)
	if strings.Contains(s.tail(1<<20), s.APIKey) {
		t.Error("the log holds the key")
	}
}

// startKeyed starts a server with TLS on all addresses.
func startKeyed(t *testing.T, dir string, args []string, caFile string) *server {
	t.Helper()
	s := &server{dir: dir}
	t.Cleanup(func() { s.end(t) })
	s.process = start(t, nil, args...)
	s.name = s.await(t, "sandbox network is ready")["name"].(string)
	at, err := url.Parse(s.await(t, "the REST API is served")["url"].(string))
	check(t, err)
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(caFile)
	check(t, err)
	roots.AppendCertsFromPEM(pem)
	s.Client = &client.Client{
		BaseURL: "https://127.0.0.1:" + at.Port(), APIKey: localKey(t, dir),
		HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}},
	}
	eventually(t, "the server is ready", func() bool {
		_, err := s.Ready(t.Context())
		return err == nil
	})
	return s
}

// renewed checks that a renewed certificate is served without a restart.
func renewed(t *testing.T, s *server, ca *certstest.Authority) {
	t.Helper()
	shown := func() *big.Int {
		conn, err := (&tls.Dialer{Config: s.HTTPClient.Transport.(*http.Transport).TLSClientConfig}).Dial("tcp", strings.TrimPrefix(s.BaseURL, "https://"))
		check(t, err)
		defer conn.Close()
		return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber
	}
	before := shown()
	ca.Issue(t, "api")
	if before.Cmp(shown()) == 0 {
		t.Error("the renewed certificate is not served")
	}
}

// keysWhileRunning checks that `wrenn key` takes effect with the next request.
func keysWhileRunning(t *testing.T, s *server, nobody *client.Client) {
	t.Helper()
	stdout, stderr, err := wrenn(t, nil, "key", "create", "--data-dir", s.dir, "--json", "tests")
	if err != nil {
		t.Fatalf("key create: %v: %s", err, stderr)
	}
	var made struct{ ID, Key string }
	check(t, json.Unmarshal([]byte(stdout), &made))
	if a := call(t, nobody, "GET", "/v1/sandboxes", nil, "X-API-Key", made.Key); a.status != 200 {
		t.Errorf("a key made while the server runs: %d %s", a.status, a.body)
	}
	if _, stderr, err := wrenn(t, nil, "key", "revoke", "--data-dir", s.dir, made.ID); err != nil {
		t.Fatalf("key revoke: %v: %s", err, stderr)
	}
	call(t, nobody, "GET", "/v1/sandboxes", nil, "X-API-Key", made.Key).wantError(t, 401, "invalid_api_key")
}

// commandLineFindsTheKey: root's commands find the server's own key, which
// nobody else can read.
func commandLineFindsTheKey(t *testing.T, s *server, caFile string) {
	t.Helper()
	st, err := os.Stat(filepath.Join(s.dir, "api-key"))
	check(t, err)
	if st.Mode() != 0o600 {
		t.Errorf("the key's file has the mode %v, want -rw-------", st.Mode())
	}
	env := []string{"WRENN_API_KEY=", "WRENN_URL=" + s.BaseURL, "WRENN_CA_FILE=" + caFile, "XDG_CONFIG_HOME=" + t.TempDir()}
	if _, stderr, err := wrenn(t, append(env, "WRENN_DATA_DIR="+s.dir), "ls"); err != nil {
		t.Errorf("wrenn ls by root: %v: %s", err, stderr)
	}
	if _, stderr, err := wrenn(t, append(env, "WRENN_DATA_DIR="+t.TempDir()), "ls"); err == nil || !strings.Contains(stderr, "missing_api_key") {
		t.Errorf("wrenn ls without: %v: %s", err, stderr)
	}
}
