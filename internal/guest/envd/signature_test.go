package envd

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wrenn-dev/wrenn/internal/fault"

	"github.com/wrenn-dev/wrenn/internal/guest/agent"
)

func TestSignatureVector(t *testing.T) {
	got := signature("hello.txt", operationRead, "user", "0tQG31xiMp0IOQfaz9dcwi72L1CPo8e0", "")
	if want := "v1_gUtH/s9YCJWgCizjfUxuWfhFE4QSydOWEIIvfLwDr6E"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A signature allows exactly the signed request, and only until it expires.
func TestSignatureProperty(t *testing.T) {
	word := rapid.StringMatching(`[a-z/.]{0,12}`)
	rapid.Check(t, func(t *rapid.T) {
		s := &agent.Settings{EnvdToken: rapid.StringMatching(`[a-z]{1,8}`).Draw(t, "token")}
		path, user := word.Draw(t, "path"), word.Draw(t, "user")
		now := time.Unix(1_800_000_000, 0)
		expires := now.Unix() + rapid.Int64Range(-100, 100).Draw(t, "expires")
		q := url.Values{"path": {path}, "username": {user}, "signature_expiration": {strconv.FormatInt(expires, 10)}}
		q.Set("signature", signature(path, operationRead, user, s.EnvdToken, q.Get("signature_expiration")))

		if err := checkFileAccess(s, http.Header{}, q, operationRead, now); (err == nil) != (expires >= now.Unix()) {
			t.Fatalf("expires %d: %v", expires-now.Unix(), err)
		}
		if err := checkFileAccess(s, http.Header{}, q, operationWrite, now); err == nil {
			t.Fatal("a signature to read allowed to write")
		}
		changed := rapid.SampledFrom([]string{"path", "username", "signature_expiration", "signature"}).Draw(t, "changed")
		q.Set(changed, q.Get(changed)+"1")
		if err := checkFileAccess(s, http.Header{}, q, operationRead, now); !fault.Is(err, fault.Unauthenticated) {
			t.Fatalf("changed %s: %v", changed, err)
		}
	})
}

func TestFileAccessByHeader(t *testing.T) {
	s := &agent.Settings{EnvdToken: "secret"}
	signed := url.Values{"signature": {signature("", operationRead, "", "secret", "")}}
	header := func(token string) http.Header { return http.Header{headerToken: {token}} }
	tests := []struct {
		name    string
		h       http.Header
		q       url.Values
		message string
	}{
		{"token", header("secret"), nil, ""},
		{"wrong token beside a good signature", header("wrong"), signed, "wrong"},
		{"signature alone", http.Header{}, signed, ""},
		{"nothing", http.Header{}, nil, "missing signature"},
	}
	for _, tt := range tests {
		err := checkFileAccess(s, tt.h, tt.q, operationRead, time.Now())
		if (err == nil) != (tt.message == "") || err != nil && !strings.Contains(fault.As(err).Public, tt.message) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
