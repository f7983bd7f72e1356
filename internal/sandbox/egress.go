package sandbox

import (
	"net/netip"
	"slices"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// MaxEgressRanges is the largest number of ranges in each list of an Egress.
const MaxEgressRanges = 256

// Egress limits the addresses to which a sandbox can open connections, beyond the
// limits that hold for all sandboxes of a host. The zero value limits nothing. All
// ranges are IPv4, because sandboxes have no other addresses.
type Egress struct {
	// Deny are the ranges that the sandbox cannot reach, except for Allow. That holds
	// for nameservers too.
	Deny []netip.Prefix `json:",omitempty"`
	// Allow are exceptions from Deny.
	Allow []netip.Prefix `json:",omitempty"`
}

// everyAddress is the range of all IPv4 addresses.
var everyAddress = netip.PrefixFrom(netip.IPv4Unspecified(), 0)

// DenyAll is the Egress of a sandbox that can open no connection.
func DenyAll() Egress { return Egress{Deny: []netip.Prefix{everyAddress}} }

// Limited reports whether e limits anything.
func (e Egress) Limited() bool { return len(e.Deny) > 0 }

// DeniesAll reports whether e denies every address that it does not allow.
func (e Egress) DeniesAll() bool { return slices.Contains(e.Deny, everyAddress) }

// Equal reports whether e and f have the same ranges in the same order.
func (e Egress) Equal(f Egress) bool {
	return slices.Equal(e.Deny, f.Deny) && slices.Equal(e.Allow, f.Allow)
}

// ParseEgress reads ranges in CIDR notation and single addresses. The error is of kind
// Invalid, reason invalid_egress, and names the text that is neither.
func ParseEgress(deny, allow []string) (e Egress, err error) {
	if e.Deny, err = parseRanges(deny); err != nil {
		return Egress{}, err
	}
	e.Allow, err = parseRanges(allow)
	return e, err
}

func parseRanges(texts []string) (ranges []netip.Prefix, err error) {
	for _, text := range texts {
		r, err := netip.ParsePrefix(text)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(text); err == nil {
				r = netip.PrefixFrom(a, a.BitLen())
			}
		}
		if err != nil || !r.Addr().Is4() {
			return nil, fault.New(fault.Invalid, "invalid_egress",
				"egress has %.100q, which is neither an IPv4 address nor a range such as 203.0.113.0/24", text)
		}
		ranges = append(ranges, r.Masked())
	}
	return ranges, nil
}

// Strings returns the ranges as ParseEgress reads them.
func (e Egress) Strings() (deny, allow []string) { return textOf(e.Deny), textOf(e.Allow) }

func textOf(ranges []netip.Prefix) []string {
	texts := make([]string, len(ranges))
	for i, r := range ranges {
		texts[i] = r.String()
	}
	return texts
}

func (e Egress) validate() error {
	for _, list := range [][]netip.Prefix{e.Deny, e.Allow} {
		if len(list) > MaxEgressRanges {
			return fault.New(fault.Invalid, "invalid_egress", "egress may have at most %d ranges in each list", MaxEgressRanges)
		}
		if slices.ContainsFunc(list, func(r netip.Prefix) bool { return !r.IsValid() || !r.Addr().Is4() }) {
			return fault.New(fault.Invalid, "invalid_egress", "egress must hold IPv4 ranges only")
		}
	}
	if len(e.Allow) > 0 && !e.Limited() {
		return fault.New(fault.Invalid, "invalid_egress", "egress allows ranges but denies none: add a range to deny, such as 0.0.0.0/0")
	}
	return nil
}
