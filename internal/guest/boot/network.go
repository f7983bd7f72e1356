package boot

import (
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
)

// The network is the same in every guest, because each is in a network namespace
// of its own on the host.
var (
	guestAddress   = net.IPNet{IP: net.IPv4(169, 254, 0, 21), Mask: net.CIDRMask(30, 32)}
	gatewayAddress = net.IPv4(169, 254, 0, 22)
	gatewayMAC     = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x02}
)

// setUpNetwork brings up the loopback and the first other link, which must exist.
func setUpNetwork() error {
	limitIPv6()
	allowPing()
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var card netlink.Link
	for _, l := range links {
		switch {
		case l.Attrs().Flags&net.FlagLoopback != 0:
			if err := netlink.LinkSetUp(l); err != nil {
				return fmt.Errorf("set %s up: %w", l.Attrs().Name, err)
			}
		case card == nil && len(l.Attrs().HardwareAddr) == 6:
			card = l
		}
	}
	if card == nil {
		return fmt.Errorf("there is no network card")
	}
	return setUpCard(card)
}

func setUpCard(card netlink.Link) error {
	if err := netlink.AddrAdd(card, &netlink.Addr{IPNet: &guestAddress}); err != nil {
		return fmt.Errorf("set address: %w", err)
	}
	if err := netlink.LinkSetUp(card); err != nil {
		return fmt.Errorf("set %s up: %w", card.Attrs().Name, err)
	}
	// Permanent: a clone must not wait for the gateway to answer ARP.
	neighbour := &netlink.Neigh{
		LinkIndex: card.Attrs().Index, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT,
		IP: gatewayAddress, HardwareAddr: gatewayMAC,
	}
	if err := netlink.NeighSet(neighbour); err != nil {
		return fmt.Errorf("set gateway's neighbour entry: %w", err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: card.Attrs().Index, Gw: gatewayAddress}); err != nil {
		return fmt.Errorf("set default route: %w", err)
	}
	return nil
}

// allowPing lets every group open ping sockets (icmp(7)), as distributions do, because
// the program ping has no capability in a template.
func allowPing() {
	_ = os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0) // optional in a kernel
}

// limitIPv6 turns IPv6 off on every later link, but not on the loopback, because
// programs expect localhost to have ::1. It ignores errors: a kernel without IPv6
// has no such files.
func limitIPv6() {
	for _, scope := range []struct{ name, disable string }{{"all", "1"}, {"default", "1"}, {"lo", "0"}} {
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+scope.name+"/disable_ipv6", []byte(scope.disable), 0)
	}
}
