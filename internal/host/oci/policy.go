package oci

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Policy says which registries the host may use. The zero value permits all those with
// public addresses, over TLS.
type Policy struct {
	// Registries may be used regardless of their address.
	Registries []Registry
	// Mirrors are used instead of registries, by the name of the registry, such as
	// "docker.io".
	Mirrors map[string]Mirror
}

// Registry is a registry that the operator lists.
type Registry struct {
	// Host is a name or an address with an optional port.
	Host string
	// Insecure permits plain HTTP, and TLS with a certificate that cannot be checked.
	Insecure bool
}

// Mirror is a place that has the images of another registry.
type Mirror struct {
	// Host is that of the mirror, with an optional port.
	Host string
	// Prefix goes before the names of repositories; may be empty.
	Prefix string
}

// registryHost is a host name or an IPv4 address, or an IPv6 address in brackets, with
// an optional port.
var registryHost = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)

// mirrorPrefix is the beginning of a repository's name.
var mirrorPrefix = regexp.MustCompile(`^[a-z0-9]+([._/-][a-z0-9]+)*$`)

// ParseRegistry reads HOST[:PORT][,insecure].
func ParseRegistry(s string) (Registry, error) {
	host, option, given := strings.Cut(s, ",")
	if !registryHost.MatchString(host) || given && option != "insecure" {
		return Registry{}, fmt.Errorf("a registry is HOST[:PORT] or HOST[:PORT],insecure, not %q", s)
	}
	return Registry{Host: hostOf(host), Insecure: given}, nil
}

// ParseMirror reads REGISTRY=HOST[:PORT][/PREFIX] and returns the registry's name.
func ParseMirror(s string) (string, Mirror, error) {
	of, place, _ := strings.Cut(s, "=")
	host, prefix, prefixed := strings.Cut(place, "/")
	if !registryHost.MatchString(of) || !registryHost.MatchString(host) || prefixed && !mirrorPrefix.MatchString(prefix) {
		return "", Mirror{}, fmt.Errorf("a mirror is REGISTRY=HOST[:PORT][/PREFIX], such as docker.io=mirror.example:5000, not %q", s)
	}
	if !strings.ContainsAny(host, ".:") {
		host += ":443" // a reference takes a name without a dot for that of a repository
	}
	return hostOf(of), Mirror{Host: hostOf(host), Prefix: prefix}, nil
}

// hostOf returns a registry's host in the form in which references have it.
func hostOf(host string) string {
	switch host = strings.ToLower(host); host {
	case "docker.io", "registry-1.docker.io":
		return name.DefaultRegistry
	}
	return host
}

// listed returns the operator's entry for a registry.
func (p Policy) listed(host string) (Registry, bool) {
	for _, r := range p.Registries {
		if r.Host == host {
			return r, true
		}
	}
	for _, m := range p.Mirrors {
		if m.Host == host {
			return Registry{Host: host}, true
		}
	}
	return Registry{}, false
}

// maxReference is the largest length of a reference, in bytes.
const maxReference = 1024

// resolve returns the place from which the image called reference is fetched, and
// whether that is a mirror.
func (p Policy) resolve(reference string) (ref name.Reference, mirrored bool, err error) {
	if len(reference) > maxReference {
		return nil, false, badReference(nil)
	}
	ref, err = name.ParseReference(reference)
	if err != nil {
		return nil, false, badReference(err)
	}
	host := hostOf(ref.Context().RegistryStr())
	if m, ok := p.Mirrors[host]; ok {
		mirrored, host = true, m.Host
		at := m.Host + "/"
		if m.Prefix != "" {
			at += m.Prefix + "/"
		}
		separator := ":"
		if strings.Contains(ref.Identifier(), ":") {
			separator = "@"
		}
		reference = at + ref.Context().RepositoryStr() + separator + ref.Identifier()
	}
	var options []name.Option
	if r, _ := p.listed(host); r.Insecure {
		options = append(options, name.Insecure)
	}
	ref, err = name.ParseReference(reference, options...)
	if err != nil {
		return nil, false, badReference(err)
	}
	return ref, mirrored, nil
}

func badReference(cause error) error {
	return fault.Wrap(cause, fault.Invalid, "invalid_image",
		"an image is named as [registry/]repository[:tag][@digest], such as python:3.12 or ghcr.io/owner/name:tag, in at most %d characters", maxReference)
}

// notPublic are ranges that no registry of the internet has, beside those that
// netip.Addr knows. They include ranges that carry IPv4 addresses inside IPv6 ones.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.88.99.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/8"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("fec0::/10"),
}

// public reports whether a is an address of the internet.
func public(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(a) {
			return false
		}
	}
	return true
}
