package rest

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control/auth"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// fakeSecret is a secret that may be replaced.
type fakeSecret struct {
	mu     sync.Mutex
	secret string
}

func (f *fakeSecret) SigningSecret(context.Context) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return []byte(f.secret), nil
}

// oneKey admits the key "k".
type oneKey struct{}

func (oneKey) Authenticate(_ context.Context, key string) (auth.Principal, error) {
	if key != "k" {
		return auth.Principal{}, fault.New(fault.Unauthenticated, "invalid_api_key", "the API key is not valid")
	}
	return auth.Principal{KeyID: "k"}, nil
}

// signer is a world with keys, a sandbox and its files.
type signer struct {
	*world
	secret *fakeSecret
	files  string
}

func newSigner(t *testing.T) signer {
	secret := &fakeSecret{secret: "the first secret"}
	w := newWorld(t, func(c *Config) { c.Access, c.Secrets = RequireKey(oneKey{}), secret })
	sb := decode[types.Sandbox](w, w.want(w.call("POST", "/v1/sandboxes", "{}", "X-API-Key: k"), http.StatusCreated))
	return signer{w, secret, "/v1/sandboxes/" + sb.ID + "/files"}
}

// sign returns the path and query of a signed URL.
func (s signer) sign(body string) string {
	s.Helper()
	out := decode[types.SignedURL](s.world, s.want(s.call("POST", s.files+"/sign", body, "X-API-Key: k"), http.StatusOK))
	rest, ok := strings.CutPrefix(out.URL, s.url)
	if left := time.Until(out.ExpiresAt); !ok || left <= 0 || left > maxExpiresSec*time.Second {
		s.Errorf("got %+v, want a URL of %s that expires", out, s.url)
	}
	return rest
}

func TestSignedURLs(t *testing.T) {
	s := newSigner(t)
	write := s.sign(`{"path":"/data/a b","operation":"write","user":"u","max_bytes":5}`)
	s.want(s.call("PUT", write, "hello", "Idempotency-Key: x"), http.StatusNoContent)
	if where := s.fake.files["/data/a b"].where; where.User != "u" {
		t.Errorf("got %+v, want the file of u", where)
	}
	s.want(s.call("PUT", write, "hello!"), http.StatusRequestEntityTooLarge)
	s.want(s.call("GET", write, ""), http.StatusUnauthorized)
	read := s.sign(`{"path":"/data/a b","operation":"read"}`)
	if a := s.want(s.call("GET", read, ""), http.StatusOK); string(a.body) != "hello" {
		t.Errorf("got %q, want hello", a.body)
	}
	s.want(s.call("HEAD", read, ""), http.StatusOK)
	s.want(s.call("GET", read, "", "Range: bytes=1-2"), http.StatusPartialContent)
	for _, method := range []string{"PUT", "DELETE"} {
		s.want(s.call(method, read, ""), http.StatusUnauthorized)
	}
	for _, part := range []string{"/list", "/stat", "/tar", "/watch"} {
		s.want(s.call("GET", strings.Replace(read, "/files?", "/files"+part+"?", 1), ""), http.StatusUnauthorized)
	}
	s.secret.mu.Lock()
	s.secret.secret = "another secret"
	s.secret.mu.Unlock()
	s.want(s.call("GET", read, ""), http.StatusUnauthorized)
}

// TestSignaturesCoverEverything changes each part of a signed URL.
func TestSignaturesCoverEverything(t *testing.T) {
	s := newSigner(t)
	s.want(s.call("PUT", s.files+"?path=/data", "x", "X-API-Key: k"), http.StatusNoContent)
	s.want(s.call("PUT", s.files+"?path=/other", "x", "X-API-Key: k"), http.StatusNoContent)
	other := decode[types.Sandbox](s.world, s.want(s.call("POST", "/v1/sandboxes", "{}", "X-API-Key: k"), http.StatusCreated))
	read := s.sign(`{"path":"/data","operation":"read","user":"u"}`)
	at, _, _ := strings.Cut(read, "?")
	changed := func(change func(url.Values)) string {
		u, err := url.Parse(read)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		change(q)
		return at + "?" + q.Encode()
	}
	s.want(s.call("GET", read, ""), http.StatusOK)
	later := strconv.FormatInt(time.Now().Add(48*time.Hour).Unix(), 10)
	for name, tt := range map[string]struct{ at, code string }{
		"path":      {changed(func(q url.Values) { q.Set("path", "/other") }), "invalid_signature"},
		"user":      {changed(func(q url.Values) { q.Del("user") }), "invalid_signature"},
		"expiry":    {changed(func(q url.Values) { q.Set("expires", later) }), "invalid_signature"},
		"expired":   {changed(func(q url.Values) { q.Set("expires", "1") }), "signature_expired"},
		"no expiry": {changed(func(q url.Values) { q.Del("expires") }), "invalid_signature"},
		"size":      {changed(func(q url.Values) { q.Set("max_bytes", "1") }), "invalid_signature"},
		"mode":      {changed(func(q url.Values) { q.Set("mode", "0777") }), "invalid_signature"},
		"twice":     {changed(func(q url.Values) { q.Add("path", "/other") }), "invalid_signature"},
		"empty":     {changed(func(q url.Values) { q.Set("signature", "") }), "invalid_signature"},
		"short":     {changed(func(q url.Values) { q.Set("signature", q.Get("signature")[:40]) }), "invalid_signature"},
		"sandbox":   {strings.Replace(read, strings.Split(at, "/")[3], other.ID, 1), "invalid_signature"},
		"none":      {changed(func(q url.Values) { q.Del("signature") }), "missing_api_key"},
	} {
		a := s.want(s.call("GET", tt.at, ""), http.StatusUnauthorized)
		if got := a.fault(s.world).Code; got != tt.code {
			t.Errorf("%s: got %s, want %s", name, got, tt.code)
		}
	}
	// With a key, the parameters of a signed URL have no meaning of their own.
	s.want(s.call("GET", changed(func(q url.Values) { q.Del("signature") }), "", "X-API-Key: k"), http.StatusOK)
	a := s.want(s.call("PUT", s.files+"?path=/data&max_bytes=1", "x", "X-API-Key: k"), http.StatusBadRequest)
	if got := a.fault(s.world).Code; got != "invalid_query" {
		t.Errorf("max_bytes without a signature: got %s, want invalid_query", got)
	}
}

func TestSignedURLsExpire(t *testing.T) {
	s := newSigner(t)
	s.want(s.call("PUT", s.files+"?path=/data", "x", "X-API-Key: k"), http.StatusNoContent)
	id := sandbox.ID(strings.Split(s.files, "/")[3])
	for after, status := range map[time.Duration]int{time.Minute: http.StatusOK, -time.Second: http.StatusUnauthorized} {
		g := grant{operation: signedRead, sandbox: id, path: "/data", expires: time.Now().Add(after).Unix()}
		a := s.want(s.call("GET", s.files+"?"+g.query([]byte("the first secret")).Encode(), ""), status)
		if status != http.StatusOK && a.fault(s.world).Code != "signature_expired" {
			t.Errorf("got %s, want signature_expired", a.body)
		}
	}
}

func TestSignatureIsAStableFormat(t *testing.T) {
	g := grant{operation: signedWrite, sandbox: "k3jvq0f4m2n8", path: "/root/a", user: "u", expires: 1767369600, maxBytes: 7}
	const want = "iMxRL3XOMgidBy4VL4PG9IL2szWmbpoJQyvxtInNfgI"
	if got := g.query([]byte("0123456789abcdef0123456789abcdef")).Get("signature"); got != want {
		t.Errorf("got %s, want %s: URLs that are in use would become invalid", got, want)
	}
}

func TestBadSignRequests(t *testing.T) {
	s := newSigner(t)
	for body, code := range map[string]string{
		`{"path":"/a"}`:                                              "invalid_operation",
		`{"path":"/a","operation":"list"}`:                           "invalid_operation",
		`{"operation":"read"}`:                                       "invalid_path",
		`{"path":"a","operation":"read"}`:                            "invalid_path",
		`{"path":"/a","operation":"read","expires_in_sec":0}`:        "invalid_expiry",
		`{"path":"/a","operation":"read","expires_in_sec":604801}`:   "invalid_expiry",
		`{"path":"/a","operation":"read","max_bytes":1}`:             "invalid_max_bytes",
		`{"path":"/a","operation":"write","max_bytes":0}`:            "invalid_max_bytes",
		`{"path":"/a","operation":"read","user":"A B"}`:              "invalid_user",
		`{"path":"/a","operation":"read","expires_in_seconds":1000}`: "unknown_field",
	} {
		a := s.want(s.call("POST", s.files+"/sign", body, "X-API-Key: k"), http.StatusBadRequest)
		if got := a.fault(s.world).Code; got != code {
			t.Errorf("%s: got %s, want %s", body, got, code)
		}
	}
	body := `{"path":"/a","operation":"read"}`
	s.want(s.call("POST", s.files+"/sign", body), http.StatusUnauthorized)
	s.want(s.call("POST", "/v1/sandboxes/abcdefghij0123456789/files/sign", body, "X-API-Key: k"), http.StatusNotFound)
	s.want(s.call("DELETE", strings.TrimSuffix(s.files, "/files"), "", "X-API-Key: k"), http.StatusNoContent)
	s.want(s.call("POST", s.files+"/sign", body, "X-API-Key: k"), http.StatusConflict)
}
