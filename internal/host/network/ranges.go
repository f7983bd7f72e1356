package network

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// span is a closed range of IPv4 addresses.
type span struct{ first, last netip.Addr }

// String writes the range as nft(8) does: as a prefix where it is one.
func (s span) String() string {
	if s.first == s.last {
		return s.first.String()
	}
	for bits := 0; bits < 32; bits++ {
		if p := netip.PrefixFrom(s.first, bits); p.Masked() == p && lastOf(p) == s.last {
			return p.String()
		}
	}
	return s.first.String() + "-" + s.last.String()
}

// neverReachable are the ranges that no sandbox may open a connection to:
// private, shared, loopback, link-local (where clouds keep their metadata
// service), protocol, benchmark, multicast and reserved addresses (RFC 6890).
var neverReachable = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("224.0.0.0/3"),
}

// merge returns the prefixes as the fewest ranges in ascending order: the
// kernel refuses a set whose intervals overlap.
func merge(prefixes []netip.Prefix) []span {
	var spans []span
	for _, p := range prefixes {
		if p.Addr().Is4() {
			spans = append(spans, span{p.Masked().Addr(), lastOf(p)})
		}
	}
	slices.SortFunc(spans, func(a, b span) int {
		return cmp.Or(a.first.Compare(b.first), a.last.Compare(b.last))
	})
	var out []span
	for _, s := range spans {
		if n := len(out); n > 0 && touches(out[n-1], s) {
			if out[n-1].last.Less(s.last) {
				out[n-1].last = s.last
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

// touches reports whether b, which does not begin before a, overlaps a or
// begins right after it.
func touches(a, b span) bool {
	next := a.last.Next()
	return !next.IsValid() || !next.Less(b.first)
}

// lastOf is the highest address of p.
func lastOf(p netip.Prefix) netip.Addr {
	return add(p.Masked().Addr(), ^uint32(0)>>p.Bits())
}

// add returns the IPv4 address n above a.
func add(a netip.Addr, n uint32) netip.Addr {
	four := a.As4()
	binary.BigEndian.PutUint32(four[:], binary.BigEndian.Uint32(four[:])+n)
	return netip.AddrFrom4(four)
}
