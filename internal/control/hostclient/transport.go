package hostclient

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

const (
	// dialTimeout bounds connecting, before anything has been asked.
	dialTimeout = 5 * time.Second
	// A connection on which nothing was heard for pingAfter is pinged, and
	// closed if no answer comes within pingTimeout.
	pingAfter   = 15 * time.Second
	pingTimeout = 15 * time.Second
)

// endpoint is a parsed address: the transport to use and the base URL.
type endpoint struct {
	transport *http.Transport
	baseURL   string
	// dial connects for one tunnel, which speaks HTTP/1.1.
	dial func(context.Context) (net.Conn, error)
	// remote is false for a unix socket, whose file's mode guards it.
	remote bool
	// encrypted is true for https.
	encrypted bool
}

// parseAddress takes unix:///path, https://host:port, or http://host:port on
// loopback: messages to an agent must not cross a network in clear text.
// config makes the configuration of each connection with TLS; it may be nil.
//
// Without TLS it speaks HTTP/2 with prior knowledge: uploads need a server that
// can refuse in the middle of the body without breaking the connection.
func parseAddress(address string, config func() *tls.Config) (endpoint, error) {
	u, err := url.Parse(address)
	if err != nil {
		return endpoint{}, badAddress(address)
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	e := endpoint{
		baseURL: address,
		remote:  true,
		transport: &http.Transport{
			DialContext: dialer.DialContext,
			Protocols:   protocols,
			HTTP2:       &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		},
	}
	e.dial = func(ctx context.Context) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", hostPort(u)) }
	switch {
	case u.Scheme == "unix" && u.Host == "" && filepath.IsAbs(u.Path):
		e.remote = false
		e.baseURL = "http://host-agent" // never resolved
		e.transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", u.Path)
		}
		e.dial = func(ctx context.Context) (net.Conn, error) { return dialer.DialContext(ctx, "unix", u.Path) }
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && (u.Path == "" || u.Path == "/") && u.User == nil:
		if u.Scheme == "http" && !loopback(u.Hostname()) {
			return endpoint{}, fault.New(fault.Invalid, "clear_text",
				"the host agent at %s must be reached with https, because it is not on this machine", address)
		}
		if e.encrypted = u.Scheme == "https"; e.encrypted {
			e.dial = func(ctx context.Context) (net.Conn, error) { return dialForTunnel(ctx, dialer, hostPort(u), config) }
		}
		if e.encrypted && config != nil {
			e.transport.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				return (&tls.Dialer{NetDialer: dialer, Config: config()}).DialContext(ctx, network, address)
			}
		}
	default:
		return endpoint{}, badAddress(address)
	}
	return e, nil
}

// hostPort returns the address of u, with the usual port of its scheme if it names none.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// dialForTunnel connects with TLS and offers HTTP/1.1 alone: HTTP/2 has no upgrade.
func dialForTunnel(ctx context.Context, dialer *net.Dialer, address string, config func() *tls.Config) (net.Conn, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if config != nil {
		cfg = config().Clone()
	}
	cfg.NextProtos = []string{"http/1.1"}
	return (&tls.Dialer{NetDialer: dialer, Config: cfg}).DialContext(ctx, "tcp", address)
}

// loopback reports whether a host's name or address is this machine's own,
// without asking DNS.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func badAddress(address string) error {
	return fault.New(fault.Invalid, "invalid_host_address",
		"a host agent's address is unix:///path/to/socket, http://host:port or https://host:port, not %q", address)
}

// bearer adds the agent's token to each request.
type bearer struct {
	next  http.RoundTripper
	token string
}

// RoundTrip implements http.RoundTripper.
func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(r)
}
