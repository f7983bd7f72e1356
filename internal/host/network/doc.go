// Package network gives each sandbox a network of its own: a namespace with a
// tap device for the VMM, a veth pair to the host, and firewall rules on both
// ends.
//
//	guest eth0 ── tap0 │ namespace: nft policy + NAT │ eth0 ══ name-XXXX │ host: nft policy + NAT ── outside
//	169.254.0.21   .22                          host_ip (.2)         (.1)
//
// Every guest has the same addresses, so that one memory snapshot fits all of
// them; what tells sandboxes apart is HostIP, one of the pool's prefix, at
// which the host (and nobody else) reaches the guest's ports.
//
// The host manager is the caller: it opens one Pool per agent, acquires a Slot
// before it starts a VMM and releases it after the VMM is gone. Namespaces
// outlive the agent; Adopt takes them over after a restart and Sweep removes
// those that nobody claims. The package never starts a process, never runs the
// ip or nft commands, and never touches what does not carry its owner mark.
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
