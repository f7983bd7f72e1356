package rest

import (
	"bytes"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/api"
)

// TestDocsNeedNothingFromOutside: this server has every file that the page loads,
// and the page's policy allows nothing else.
func TestDocsNeedNothingFromOutside(t *testing.T) {
	w := newWorld(t)
	if a := w.want(w.call("GET", "/", ""), http.StatusFound); a.Header.Get("Location") != "/docs" {
		t.Errorf("/ leads to %q", a.Header.Get("Location"))
	}
	page := w.want(w.call("GET", "/docs", ""), http.StatusOK)
	if typ := page.Header.Get("Content-Type"); !strings.HasPrefix(typ, "text/html") {
		t.Errorf("the page is %s", typ)
	}
	policy := page.Header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "script-src 'self';") || strings.Contains(policy, "http") {
		t.Errorf("policy %q", policy)
	}
	if bytes.Contains(page.body, []byte("http")) || regexp.MustCompile(`<script[^>]*>[^<]`).Match(page.body) {
		t.Errorf("the page needs something from outside, or an inline script:\n%s", page.body)
	}
	assets := regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllSubmatch(page.body, -1)
	if len(assets) < 5 {
		t.Errorf("only %d assets were found", len(assets))
	}
	for _, m := range assets {
		if a := w.want(w.call("GET", string(m[1]), ""), http.StatusOK); len(a.body) == 0 {
			t.Errorf("%s is empty", m[1])
		}
	}
	// The embedded files are compressed; a client that cannot is served all the same.
	plain := w.want(w.call("GET", "/docs/swagger-ui-bundle.js", "", "Accept-Encoding: identity"), http.StatusOK)
	if len(plain.body) < 1<<20 || plain.Header.Get("Content-Encoding") != "" || !strings.Contains(plain.Header.Get("Content-Type"), "javascript") {
		t.Errorf("the bundle has %d bytes, headers %v", len(plain.body), plain.Header)
	}
	doc := w.want(w.call("GET", "/openapi.yaml", ""), http.StatusOK)
	if !bytes.Equal(doc.body, api.OpenAPI) || doc.Header.Get("Content-Type") != "application/yaml" {
		t.Errorf("the document has %d bytes, headers %v", len(doc.body), doc.Header)
	}
}
