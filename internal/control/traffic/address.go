package traffic

import (
	"net"
	"regexp"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// DefaultDomain is the domain of a server on a laptop: browsers and many resolvers take
// every name below it for this machine.
const DefaultDomain = "localhost"

// Address is the address below which the ports of sandboxes have names.
type Address struct {
	// Domain is a DNS name in lower case.
	Domain string
	scheme string
	// port is empty for the usual one of scheme.
	port string
}

var domainName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// maxDomain leaves room for the label of a port in a DNS name, which has at most 253
// characters.
const maxDomain = 253 - len("65535-") - 48 - 1

// ParseAddress parses [SCHEME://]NAME[:PORT]. A missing part is
// taken from the listener: secure says that it speaks TLS, and port is its port.
func ParseAddress(s string, secure bool, port string) (Address, error) {
	a := Address{scheme: "http", port: port}
	if secure {
		a.scheme = "https"
	}
	name := s
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		// A proxy with that scheme is in front, at its usual port.
		a.scheme, name, a.port = scheme, rest, ""
	}
	if host, p, err := net.SplitHostPort(name); err == nil {
		name, a.port = host, p
	}
	a.Domain = strings.ToLower(strings.TrimSuffix(name, "."))
	if !domainName.MatchString(a.Domain) || len(a.Domain) > maxDomain || a.scheme != "http" && a.scheme != "https" {
		return Address{}, fault.New(fault.Invalid, "invalid_domain",
			"a domain is a DNS name such as sandboxes.example.com, with https:// before it if a proxy speaks TLS, not %q", s)
	}
	if a.port == map[string]string{"http": "80", "https": "443"}[a.scheme] {
		a.port = ""
	}
	return a, nil
}

// Authority returns the name below which ports have theirs, with the port of the server
// unless it is the usual one.
func (a Address) Authority() string {
	if a.port == "" {
		return a.Domain
	}
	return net.JoinHostPort(a.Domain, a.port)
}

// PortURL returns the address of the ports of the sandbox id, with "{port}" for the
// number.
func (a Address) PortURL(id sandbox.ID) string {
	host := "{port}-" + string(id) + "." + a.Domain
	if a.port != "" {
		host = net.JoinHostPort(host, a.port)
	}
	return a.scheme + "://" + host
}
