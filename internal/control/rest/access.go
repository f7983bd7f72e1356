package rest

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/control/auth"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// maxKeyLength bounds, in bytes, the key that an Authenticator gets.
const maxKeyLength = 256

// Authenticator returns the principal of an API key. The error is
// Unauthenticated if the key is not valid.
type Authenticator interface {
	Authenticate(ctx context.Context, key string) (auth.Principal, error)
}

// Access decides which callers may use /v1. OpenOnLoopback and RequireKey make
// one; New refuses the zero Access.
type Access struct {
	// guard returns r's context with the principal, if there is one. An error
	// means that r is refused.
	guard func(r *http.Request) (context.Context, error)
}

// OpenOnLoopback admits every caller that can reach a loopback address, except
// for pages of other sites in a browser on the same machine. It must only be
// used for a server that listens on loopback alone.
//
// Three checks keep such a page from the API. Host must be a loopback name, so
// that a foreign name that resolves to this machine (DNS rebinding) is not
// served. Origin, which browsers send with everything that can change
// something, must be this server. Sec-Fetch-Site, which newer browsers send
// always and no page can forge, must not be of another origin.
func OpenOnLoopback() Access {
	return Access{guard: func(r *http.Request) (context.Context, error) { return r.Context(), refuseBrowsers(r) }}
}

// RequireKey requires an API key of every caller, in X-API-Key or as a bearer
// token. New refuses the Access that a nil a makes.
func RequireKey(a Authenticator) Access {
	if a == nil {
		return Access{}
	}
	return Access{guard: func(r *http.Request) (context.Context, error) {
		key, err := keyOf(r.Header)
		if err != nil {
			return nil, err
		}
		who, err := a.Authenticate(r.Context(), key)
		if err != nil {
			return nil, err
		}
		return auth.WithPrincipal(r.Context(), who), nil
	}}
}

// Admit returns an error if a caller of r may not use the API.
func (a Access) Admit(r *http.Request) error {
	_, err := a.guard(r)
	return err
}

// Enter returns the context of r with the principal of its caller, if there is one. An
// error means that the caller may not use the API.
func (a Access) Enter(r *http.Request) (context.Context, error) { return a.guard(r) }

// access passes a request on if the configured Access admits it.
func (s *server) access(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, err := s.Access.guard(r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		if who, ok := auth.PrincipalOf(ctx); ok {
			requestOf(ctx).principal = who.KeyID
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// keyOf returns the API key of a request.
func keyOf(h http.Header) (string, error) {
	key := h.Get("X-API-Key")
	if given := h.Get("Authorization"); key == "" && given != "" {
		scheme, token, _ := strings.Cut(given, " ")
		if strings.EqualFold(scheme, "Bearer") {
			key = strings.TrimSpace(token)
		}
	}
	switch {
	case key == "":
		return "", fault.New(fault.Unauthenticated, "missing_api_key",
			"an API key is needed, as X-API-Key or as Authorization: Bearer")
	case len(key) > maxKeyLength:
		return "", fault.New(fault.Unauthenticated, "invalid_api_key", "the API key is not valid")
	}
	return key, nil
}

func refuseBrowsers(r *http.Request) error {
	if !loopbackHost(r.Host) {
		return fault.New(fault.Forbidden, "foreign_host",
			"this server has no API keys and requires localhost or a loopback address as Host")
	}
	if !sameOrigin(r) {
		return fault.New(fault.Forbidden, "cross_origin",
			"this server has no API keys and does not answer pages of other sites")
	}
	return nil
}

// loopbackHost reports whether the Host header hostport, with or without a
// port, names a loopback address without a lookup in DNS.
func loopbackHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// sameOrigin reports whether r comes from one of this server's own pages or
// from no page at all.
func sameOrigin(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		return false
	}
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return true
	}
	if len(origins) > 1 {
		return false
	}
	o, err := url.Parse(origins[0])
	return err == nil && (o.Scheme == "http" || o.Scheme == "https") && strings.EqualFold(o.Host, r.Host)
}
