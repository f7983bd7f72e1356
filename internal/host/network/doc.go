// Package network gives each sandbox a network of its own: a namespace with a
// tap device for the VMM, a veth pair to the host, and firewall rules on both
// ends.
//
//	guest eth0 ── tap0 │ namespace: nft policy + NAT │ eth0 ══ name-XXXX │ host: nft policy + NAT ── outside
//	169.254.0.21   .22                          host_ip (.2)         (.1)
//
// A guest that is no VM with a network card, but a program that joins a network
// namespace, gets one with its eth0 in it, and tap0 is the other end of that veth pair
// (Slot.GuestNamespace). The rules are the same.
//
// Every guest has the same addresses, so that one memory snapshot fits all of
// them. A sandbox's own address is HostIP, one of the pool's prefix, at
// which the host (and nobody else) reaches the guest's ports.
//
// The host manager is the caller: it opens one Pool per agent, acquires a Slot
// before it starts a VMM and releases it after the VMM is gone. Namespaces
// outlive the agent; Adopt takes them over after a restart, Discard and Sweep
// remove those that nobody claims. The package never starts a process, never
// runs the ip or nft commands, and never changes a device or rule that does not
// carry its owner mark.
//
// # Where the names of namespaces are
//
// Each pool has a directory of its own, /run/netns-NAME, mounted on itself and
// private. It is not /run/netns, the directory of ip-netns(8), because others
// change the mounts there: "ip netns add", and every CNI plugin, mounts
// /run/netns on itself, which hides the mounts that were in it before, and
// then the names can no longer be unlinked (EBUSY). A directory of its own also
// keeps "ip -all netns delete" away from sandboxes. It is private because the
// kernel would otherwise copy each name into every mount namespace of the
// host. It is in /run because namespaces end with the boot of the host. To run
// a command in a sandbox's namespace: nsenter --net=/run/netns-NAME/NAME-XXXX.
//
// # Guarantees
//
//  1. Mounts that others make in /run/netns change nothing for a slot
//     (TestNamesBesideIPNetns).
//  2. Names of an earlier agent that such a mount has hidden are removed
//     (TestHiddenNamesAreRemoved).
//  3. A name that cannot be removed is garbage: it holds its index, is tried
//     again in the background, and fails no Release, Discard, Acquire or Sweep
//     (TestNameThatCannotBeRemovedIsGarbage).
//  4. Two agents with one name never work at the same time
//     (TestSecondAgentIsRefused). Only root can hold the reservation that says
//     so (TestOthersCannotReserve).
//  5. A sandbox reaches no network that the host is in, also one that it joins
//     later (TestNetworksJoinedLaterAreDenied), and speaks TCP, UDP and ICMP
//     only (TestOnlyKnownProtocolsLeave).
//  6. A sandbox has at most Limits of the host's connections, packets and bytes
//     (TestConnectionsAreLimited, TestRatesAreLimited).
//  7. No two slots of a host have the same Number, whichever agents made them
//     (TestNumbersOfTwoAgents).
package network

import (
	"net"
	"net/netip"
)

// GuestMAC and TapMAC are the addresses of the two ends of the wire between
// guest and tap. Both are the same in every sandbox: a guest restored from a
// snapshot keeps the neighbour table it was saved with.
const (
	GuestMAC = "02:00:00:00:00:01"
	TapMAC   = "02:00:00:00:00:02"
)

// LinkBits is the prefix length of the wire between guest and tap.
const LinkBits = 30

// AgentPort and ChannelPort are the guest agent's TCP ports: that of HTTP, and
// that of the host agent's own channel. They are reachable through Slot.Dial
// only, never through HostIP.
const (
	AgentPort   = 49983
	ChannelPort = 49982
)

// GuestIP is the address of every guest; GatewayIP the tap's, its default route.
var (
	GuestIP   = netip.AddrFrom4([4]byte{169, 254, 0, 21})
	GatewayIP = netip.AddrFrom4([4]byte{169, 254, 0, 22})
)

// Device names inside a namespace.
const (
	tapName    = "tap0"
	uplinkName = "eth0"
)

// mustMAC parses one of the package's own constants.
func mustMAC(s string) net.HardwareAddr {
	mac, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return mac
}
