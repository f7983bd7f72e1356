package oci

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"
)

// errNotAllowed marks a connection that the policy forbids.
var errNotAllowed = errors.New("the address is not public and the operator does not list it")

// guard is the only way from an import to the network. It checks each request, the
// ones after a redirect and those to token servers among them, and the address of each
// connection once names are resolved.
type guard struct {
	policy Policy
	limits Limits
	secure *http.Transport
	// insecure serves registries that are listed as such.
	insecure *http.Transport

	mu      sync.Mutex          // protects the following
	proxies map[string]struct{} // addresses of the proxies in use
}

// newGuard returns a guard. The caller closes it.
func newGuard(p Policy, l Limits) *guard {
	g := &guard{policy: p, limits: l, proxies: make(map[string]struct{})}
	g.secure = &http.Transport{
		Proxy: g.proxy, DialContext: g.dial, ForceAttemptHTTP2: true, MaxIdleConns: 4, IdleConnTimeout: 30 * time.Second,
		TLSHandshakeTimeout: 15 * time.Second, ResponseHeaderTimeout: l.Stall, MaxResponseHeaderBytes: 64 << 10,
	}
	g.insecure = g.secure.Clone()
	g.insecure.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // the operator asked for it, for these registries
	return g
}

func (g *guard) close() {
	g.secure.CloseIdleConnections()
	g.insecure.CloseIdleConnections()
}

// proxy returns the proxy of the environment for a request, and remembers its address.
func (g *guard) proxy(r *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(r)
	if u == nil || err != nil {
		return nil, err
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.proxies[net.JoinHostPort(u.Hostname(), port)] = struct{}{}
	return u, nil
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	entry, listed := g.policy.listed(registryOf(r.URL))
	switch {
	case r.URL.Scheme != "https" && (r.URL.Scheme != "http" || !entry.Insecure):
		return nil, fmt.Errorf("%w: %s is not reached over TLS", errNotAllowed, r.URL.Host)
	case !listed && local(r.URL.Hostname()):
		// A proxy, which resolves names itself, would connect to it.
		return nil, fmt.Errorf("%w: %s", errNotAllowed, r.URL.Host)
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	stalled := time.AfterFunc(g.limits.Stall+30*time.Second, func() { cancel(errStalled) })
	t := g.secure
	if entry.Insecure {
		t = g.insecure
	}
	res, err := t.RoundTrip(r.WithContext(ctx))
	if err != nil {
		stalled.Stop()
		cancel(nil)
		return nil, err
	}
	body := &watched{body: res.Body, ctx: ctx, cancel: cancel, timer: stalled, stall: g.limits.Stall, left: -1}
	if path := r.URL.Path; strings.HasSuffix(path, "/v2/") || strings.Contains(path, "/manifests/") {
		body.left = g.limits.Manifest
	}
	res.Body = body
	return res, nil
}

// registryOf returns the host of u as references have it.
func registryOf(u *url.URL) string { return hostOf(u.Host) }

// local reports whether host is an address that is not public, or a name of this machine.
func local(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return !public(a)
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// dial connects to address, host:port, if the policy permits it.
func (g *guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}
	if !g.permits(address) {
		d.ControlContext = func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
			a, err := netip.ParseAddrPort(resolved)
			if err != nil || !public(a.Addr()) {
				return fmt.Errorf("%w: %s is %s", errNotAllowed, address, resolved)
			}
			return nil
		}
	}
	return d.DialContext(ctx, network, address)
}

// permits reports whether address, host:port, is that of a listed registry or of a proxy.
func (g *guard) permits(address string) bool {
	g.mu.Lock()
	_, proxy := g.proxies[address]
	g.mu.Unlock()
	if proxy {
		return true
	}
	if _, listed := g.policy.listed(hostOf(address)); listed {
		return true
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || port != "443" && port != "80" {
		return false
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	_, listed := g.policy.listed(hostOf(host)) // listed without a port
	return listed
}

// errStalled ends a request to a registry that sends nothing.
var errStalled = errors.New("the registry sends nothing")

// watched is the body of an answer. It ends an answer that stalls or is too long.
type watched struct {
	body   io.ReadCloser
	ctx    context.Context // of the request, for its cause
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
	left   int64 // bytes that may follow; negative is any number
}

// Read implements io.Reader.
func (w *watched) Read(p []byte) (int, error) {
	w.timer.Reset(w.stall)
	n, err := w.body.Read(p)
	w.timer.Stop() // a reader that is slow is no fault of the registry
	if w.left >= 0 {
		if w.left -= int64(n); w.left < 0 {
			w.cancel(nil)
			return 0, tooLarge("a manifest has more than the limit of bytes")
		}
	}
	if err != nil && err != io.EOF && context.Cause(w.ctx) != nil {
		err = errors.Join(context.Cause(w.ctx), err)
	}
	return n, err
}

// Close implements io.Closer.
func (w *watched) Close() error {
	w.timer.Stop()
	defer w.cancel(nil)
	return w.body.Close()
}
