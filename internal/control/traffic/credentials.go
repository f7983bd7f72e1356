package traffic

import (
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

const (
	headerToken    = "X-Wrenn-Traffic-Token"
	headerTokenE2B = "E2b-Traffic-Access-Token"
	// tokenName is the name of the cookie and of the query parameter with the token.
	tokenName = "wrenn_traffic_token"
	headerKey = "X-Api-Key"
)

// admit returns an error unless r may reach t, a port of row's sandbox, and the kind of
// its caller. fromQuery says that the token in the query was the credential.
func (h *Handler) admit(r *http.Request, t target, row control.Sandbox) (c caller, fromQuery bool, err error) {
	if row.Spec.Public(t.port) && t.port != sandbox.EnvdPort {
		return visitor, false, nil
	}
	if held, fromQuery := h.holds(r, t, row); held {
		return holder, fromQuery, nil
	}
	// The guest's public server checks its own token.
	if t.port == sandbox.EnvdPort && row.State == sandbox.Running {
		if isSigned(r, t, row) && !wantsBytes(r) {
			return visitor, false, nil
		}
		return stranger, false, nil
	}
	return 0, false, fault.New(fault.Forbidden, reasonToken,
		"port %d of sandbox %s needs its traffic token, in the header %s: GET /v1/sandboxes/%[2]s/traffic has it", t.port, row.ID, headerToken)
}

// holds reports whether r has a credential for t, and whether that is the token in its
// query.
func (h *Handler) holds(r *http.Request, t target, row control.Sandbox) (held, fromQuery bool) {
	if hasEnvdToken(r, t, row) {
		return true, false
	}
	token := row.Spec.TrafficToken(row.ID)
	matches := func(given string) bool {
		return token != "" && subtle.ConstantTimeCompare([]byte(given), []byte(token)) == 1
	}
	if matches(r.Header.Get(headerToken)) || matches(r.Header.Get(headerTokenE2B)) || matches(proxyPassword(r.Header)) {
		return true, false
	}
	if !ofOtherPage(r) {
		for _, c := range r.CookiesNamed(tokenName) {
			if matches(c.Value) {
				return true, false
			}
		}
	}
	if given, _ := cutToken(r.URL.RawQuery); matches(given) {
		return true, true
	}
	return t.form == byPath && h.Admit(r) == nil, false
}

// ofOtherPage reports whether a browser sent r for a page of another origin, which is
// no right to use the cookie. Sandboxes of one domain are one site for a browser, so
// that SameSite does not keep them apart. A browser that does not send Sec-Fetch-Site, as
// to addresses without TLS, sends Origin with a WebSocket and with all but the simplest
// requests.
func ofOtherPage(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "cross-site", "same-site":
		return r.Header.Get("Sec-Fetch-Mode") != "navigate" || r.Method != http.MethodGet
	case "":
		origin := r.Header.Get("Origin")
		_, host, _ := strings.Cut(origin, "://")
		return origin != "" && !strings.EqualFold(host, r.Host)
	default:
		return false
	}
}

// proxyPassword returns the password, or the bearer token, for this proxy.
func proxyPassword(h http.Header) string {
	scheme, value, _ := strings.Cut(h.Get("Proxy-Authorization"), " ")
	switch strings.ToLower(scheme) {
	case "bearer":
		return value
	case "basic":
		decoded, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return ""
		}
		_, password, _ := strings.Cut(string(decoded), ":")
		return password
	default:
		return ""
	}
}

// strip removes our credentials from a request to a program. Headers that are no key of
// ours belong to the program.
func strip(h http.Header, u *url.URL) {
	h.Del(headerToken)
	h.Del(headerTokenE2B)
	h.Del("Proxy-Authorization")
	if isKey(h.Get(headerKey)) {
		h.Del(headerKey)
	}
	if _, key, _ := strings.Cut(h.Get("Authorization"), " "); isKey(key) {
		h.Del("Authorization")
	}
	_, u.RawQuery = cutToken(u.RawQuery)
	stripCookie(h)
}

// isKey reports whether s has one of the starts of API keys, see package auth.
func isKey(s string) bool {
	s = strings.TrimSpace(s)
	return strings.HasPrefix(s, "wrn_") || strings.HasPrefix(s, "e2b_")
}

// cutToken returns the first token in a query, and the query without any. The rest of
// the query stays as it was written.
func cutToken(query string) (token, rest string) {
	if !strings.Contains(query, tokenName) {
		return "", query
	}
	var kept []string
	for part := range strings.SplitSeq(query, "&") {
		if value, ok := strings.CutPrefix(part, tokenName+"="); ok {
			if token == "" {
				token = value
			}
			continue
		}
		kept = append(kept, part)
	}
	return token, strings.Join(kept, "&")
}

func stripCookie(h http.Header) {
	lines := h.Values("Cookie")
	var kept []string
	for _, line := range lines {
		var cookies []string
		for part := range strings.SplitSeq(line, ";") {
			if part = strings.TrimSpace(part); part != "" && !strings.HasPrefix(part, tokenName+"=") {
				cookies = append(cookies, part)
			}
		}
		if len(cookies) > 0 {
			kept = append(kept, strings.Join(cookies, "; "))
		}
	}
	h.Del("Cookie")
	if len(kept) > 0 {
		h["Cookie"] = kept
	}
}

// keepToken answers a link that has its token in the query: the browser keeps the token
// as a cookie, and shows an address without it. It reports whether it did.
func keepToken(w http.ResponseWriter, r *http.Request, t target) bool {
	page := r.Header.Get("Sec-Fetch-Mode") == "navigate" || strings.Contains(r.Header.Get("Accept"), "text/html")
	if t.form != byHost || !page || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	token, rest := cutToken(r.URL.RawQuery)
	http.SetCookie(w, &http.Cookie{
		Name: tokenName, Value: token, Path: "/", HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteLaxMode,
	})
	// A path that begins with two slashes would name another host.
	to := "/" + strings.TrimLeft(r.URL.EscapedPath(), "/")
	if rest != "" {
		to += "?" + rest
	}
	w.Header().Set("Location", to)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(http.StatusFound)
	return true
}
