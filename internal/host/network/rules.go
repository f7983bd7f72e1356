package network

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
)

// policy is everything that the rules depend on besides the slot.
type policy struct {
	name        string         // of the pool
	prefix      netip.Prefix   // of the pool
	hostAddrs   []netip.Prefix // the host's own addresses and the networks it is in
	nameservers []netip.Addr
	limits      Limits
}

// Names of the sets.
const (
	denySet = "never"
	dnsSet  = "nameservers"
)

// sandboxTables are the rules inside a sandbox's namespace, where hostEnd and
// hostIP are the addresses of its veth pair.
//
// A packet of the guest is first checked for its source, protocol and rate, on
// the device. A guest may talk to anybody outside but the denied ranges; the
// host may open connections to the guest's ports through hostIP, save the
// agent's; nobody else may.
func sandboxTables(p policy, hostEnd, hostIP netip.Addr) []table {
	toGuest := func(proto string) rule {
		return rule{
			iif(is, uplinkName), saddr(is, hostEnd), daddr(is, hostIP),
			dport(proto, isNot, AgentPort), dport(proto, isNot, ChannelPort), dnatTo(GuestIP),
		}
	}
	forward := p.limits.rates([]clause{iif(is, uplinkName)}, []clause{iif(is, uplinkName)}) // to the guest
	forward = append(forward, []rule{
		{ctInvalid(), drop()},
		{ctReply(), accept()},
		{iif(is, uplinkName), oif(is, tapName), ctDNAT(), accept()},
		{iif(isNot, tapName), drop()},
	}...)
	forward = append(forward, p.limits.connections()...)
	forward = append(forward, dnsRules(p)...)
	forward = append(forward, rule{daddrInSet(denySet), drop()}, rule{oif(is, uplinkName), accept()})
	filter := table{family: nftables.TableFamilyIPv4, name: "sandbox", sets: policySets(p), chains: []chain{
		{name: "prerouting", kind: nftables.ChainTypeNAT, hook: hookPrerouting, rules: []rule{toGuest("tcp"), toGuest("udp")}},
		{name: "postrouting", kind: nftables.ChainTypeNAT, hook: hookPostrouting, rules: []rule{
			{oif(is, uplinkName), saddr(is, GuestIP), masquerade()},
		}},
		{name: "forward", kind: nftables.ChainTypeFilter, hook: hookForward, drop: true, rules: forward},
		{name: "input", kind: nftables.ChainTypeFilter, hook: hookInput, drop: true, rules: []rule{
			{ctReply(), accept()},
			{iif(is, uplinkName), saddr(is, hostEnd), pingRequest(), accept()},
		}},
	}}
	return []table{guardTable(p), filter}
}

// guardTable looks at the guest's frames as they enter the namespace, before they
// cost anything else. Packets that it sends to the gateway are answers to the host agent.
func guardTable(p policy) table {
	fromGuest := []rule{{wireMAC(isNot, GuestMAC), drop()}}
	fromGuest = append(fromGuest, p.limits.rates(nil, []clause{wireDaddr(isNot, GatewayIP)})...)
	fromGuest = append(fromGuest, rule{wireARP(GuestIP), accept()})
	for _, proto := range protocols {
		fromGuest = append(fromGuest, rule{wireSaddr(GuestIP), ipProtocol(is, proto.name, proto.number), accept()})
	}
	return table{family: nftables.TableFamilyNetdev, name: "guard", chains: []chain{
		{name: "ingress", kind: nftables.ChainTypeFilter, hook: hookIngress, device: tapName, drop: true, rules: fromGuest},
	}}
}

// Names of the sets of egressTable.
const (
	egressDeny  = "deny"
	egressAllow = "allow"
)

// egressTable limits the connections that the guest opens. It only drops packets, so
// that the other rules hold as well. It looks at each packet in both directions, so that
// it also cuts connections that the guest had opened before the table was there.
// Connections that the host opens, and the messages about a connection that routers send,
// pass.
func egressTable(deny, allow []netip.Prefix) table {
	t := table{family: nftables.TableFamilyIPv4, name: "egress"}
	toGuest := []rule{
		{iif(isNot, tapName), ctOriginal(), accept()},
		{iif(isNot, tapName), ctRelated(), accept()},
	}
	fromGuest := []rule{{ctBack(), accept()}}
	if len(allow) > 0 {
		t.sets = append(t.sets, set{name: egressAllow, spans: merge(allow)})
		toGuest = append(toGuest, rule{iif(isNot, tapName), saddrInSet(egressAllow), accept()})
		fromGuest = append(fromGuest, rule{daddrInSet(egressAllow), accept()})
	}
	if len(deny) > 0 {
		t.sets = append(t.sets, set{name: egressDeny, spans: merge(deny)})
		toGuest = append(toGuest, rule{iif(isNot, tapName), saddrInSet(egressDeny), drop()})
		fromGuest = append(fromGuest, rule{daddrInSet(egressDeny), drop()})
	}
	rules := slices.Concat(toGuest, []rule{{iif(isNot, tapName), accept()}}, fromGuest)
	t.chains = []chain{{name: "forward", kind: nftables.ChainTypeFilter, hook: hookForward, rules: rules}}
	return t
}

// hostTables are the rules in the host's namespace, shared by all slots of a
// pool. They repeat the denials, so that a fault in one place is not an escape.
//
// Nothing from a sandbox reaches the host itself or another sandbox, but for
// replies and questions to a configured nameserver; nothing from outside is
// forwarded to a sandbox.
func hostTables(p policy) []table {
	devices := p.name + "-*"
	forward := []rule{
		{oif(is, devices), ctReply(), accept()},
		{oif(is, devices), drop()},
		{iif(isNot, devices), accept()},
		append(otherProtocol(), drop()),
		{ctInvalid(), drop()},
		{saddrIn(isNot, p.prefix), drop()},
	}
	forward = append(forward, dnsRules(p)...)
	forward = append(forward, rule{daddrInSet(denySet), drop()})
	input := []rule{
		{iif(isNot, devices), accept()},
		{ctReply(), accept()},
	}
	input = append(input, dnsRules(p)...)
	input = append(input, rule{drop()})
	return []table{{family: nftables.TableFamilyIPv4, name: p.name, sets: policySets(p), chains: []chain{
		{name: "forward", kind: nftables.ChainTypeFilter, hook: hookForward, rules: forward},
		{name: "input", kind: nftables.ChainTypeFilter, hook: hookInput, rules: input},
		{name: "postrouting", kind: nftables.ChainTypeNAT, hook: hookPostrouting, rules: []rule{
			{saddrIn(is, p.prefix), oif(isNot, devices), masquerade()},
		}},
	}}}
}

// dnsRules accept questions to the configured nameservers.
func dnsRules(p policy) []rule {
	if len(p.nameservers) == 0 {
		return nil
	}
	return []rule{
		{daddrInSet(dnsSet), dport("udp", is, 53), accept()},
		{daddrInSet(dnsSet), dport("tcp", is, 53), accept()},
	}
}

// with is the policy for a host that is in the given networks.
func (p policy) with(hostAddrs []netip.Prefix) policy {
	p.hostAddrs = hostAddrs
	return p
}

// denied are the ranges that no sandbox may open a connection to.
func (p policy) denied() []span {
	return merge(append(append([]netip.Prefix{p.prefix}, neverReachable...), p.hostAddrs...))
}

// alwaysDenied reports whether an address is denied in every network that the host
// is in. An address that is not IPv4 cannot be reached in any case.
func (p policy) alwaysDenied(a netip.Addr) bool {
	return !a.Is4() || p.prefix.Contains(a) || slices.ContainsFunc(neverReachable, func(r netip.Prefix) bool { return r.Contains(a) })
}

func policySets(p policy) []set {
	sets := []set{{name: denySet, spans: p.denied()}}
	if len(p.nameservers) == 0 {
		return sets
	}
	var servers []netip.Prefix
	for _, a := range p.nameservers {
		servers = append(servers, netip.PrefixFrom(a, a.BitLen()))
	}
	return append(sets, set{name: dnsSet, spans: merge(servers)})
}
