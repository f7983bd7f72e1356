package network

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// candidates are tried in order when the operator named no prefix: ranges that
// few sites use, so that more than one agent fits on a machine.
var candidates = []netip.Prefix{
	netip.MustParsePrefix("10.201.0.0/16"),
	netip.MustParsePrefix("10.202.0.0/16"),
	netip.MustParsePrefix("10.213.0.0/16"),
	netip.MustParsePrefix("10.214.0.0/16"),
	netip.MustParsePrefix("10.227.0.0/16"),
	netip.MustParsePrefix("10.228.0.0/16"),
	netip.MustParsePrefix("172.29.0.0/16"),
	netip.MustParsePrefix("172.30.0.0/16"),
	netip.MustParsePrefix("100.96.0.0/16"),
	netip.MustParsePrefix("100.97.0.0/16"),
}

// hostView holds the addresses and routes of the host's tables.
type hostView struct {
	foreign []netip.Prefix // destinations of routes that are not this pool's
	own     []netip.Addr   // host ends of this pool's slots that still exist
	addrs   []netip.Prefix // the host's addresses and the networks it is in
}

// choose returns the prefix to use and reserves it for as long as the
// reservation is open. Slots of an earlier agent decide: they keep their
// addresses.
func choose(c Config, v hostView) (netip.Prefix, *os.File, error) {
	tries := candidates
	if c.Prefix.IsValid() {
		tries = []netip.Prefix{c.Prefix}
	}
	tries = preferred(tries, v.own)
	for _, p := range tries {
		if overlapsAny(p, v.foreign) {
			continue
		}
		reservation, err := reserve(p.String())
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		}
		return p, reservation, err
	}
	return netip.Prefix{}, nil, fault.New(fault.Exists, "no_free_network",
		"every range for the sandbox network is in use on this host (tried %s); name a free one with --network", list(tries))
}

// preferred returns the one prefix in which earlier slots have addresses, if
// there is one, and all of them otherwise.
func preferred(tries []netip.Prefix, own []netip.Addr) []netip.Prefix {
	for _, p := range tries {
		for _, a := range own {
			if p.Contains(a) {
				return []netip.Prefix{p}
			}
		}
	}
	return tries
}

func overlapsAny(p netip.Prefix, others []netip.Prefix) bool {
	for _, o := range others {
		if p.Overlaps(o) {
			return true
		}
	}
	return false
}

func list(prefixes []netip.Prefix) string {
	words := make([]string, len(prefixes))
	for i, p := range prefixes {
		words[i] = p.String()
	}
	return strings.Join(words, ", ")
}

// look reads the host's links, addresses and routes.
func look(nl *netlink.Handle, c Config) (hostView, error) {
	var v hostView
	links, err := dump(nl.LinkList)
	if err != nil {
		return v, unreadable(err)
	}
	mine := map[int]bool{}
	for _, l := range links {
		mine[l.Attrs().Index] = c.ours(l.Attrs().Alias)
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return nl.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return v, unreadable(err)
	}
	for _, a := range addrs {
		p, ok := toPrefix(a.IPNet)
		switch {
		case !ok:
		case mine[a.LinkIndex]:
			v.own = append(v.own, p.Addr())
		default:
			v.addrs = append(v.addrs, p.Masked(), netip.PrefixFrom(p.Addr(), 32))
		}
	}
	// An unset table is the main one; the local table repeats the addresses.
	routes, err := dump(func() ([]netlink.Route, error) {
		return nl.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return v, unreadable(err)
	}
	for _, r := range routes {
		p, ok := toPrefix(r.Dst)
		if !ok || p.Bits() == 0 || mine[r.LinkIndex] {
			continue
		}
		v.foreign = append(v.foreign, p.Masked())
		if isLocal(r, p.Bits()) {
			v.addrs = append(v.addrs, p.Masked())
		}
	}
	return v, nil
}

// dumpTries bounds how often a list is read that changes meanwhile.
const dumpTries = 20

// dump reads a list of the kernel's again while changes interrupt the reading,
// as slots that come and go do. The part that it has read of a list that always
// changes is better than nothing.
func dump[T any](read func() ([]T, error)) (all []T, err error) {
	for range dumpTries {
		if all, err = read(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return all, nil
}

// isLocal reports whether a route leads to a network that the host is in: it has
// no gateway. Routes of more than a /8 are ways to the internet that go through
// a tunnel.
func isLocal(r netlink.Route, bits int) bool {
	return len(r.Gw) == 0 && r.Via == nil && len(r.MultiPath) == 0 && r.Type == unix.RTN_UNICAST && bits >= 8
}

func toPrefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	if !ok || !a.Unmap().Is4() {
		return netip.Prefix{}, false
	}
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones), true
}

func unreadable(err error) error {
	return fault.Wrap(err, fault.HostFailed, "network_unreadable", "the host's network configuration cannot be read")
}
