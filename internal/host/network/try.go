package network

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Try finds out whether this process may make the parts of a sandbox's network,
// by making it in a namespace without a name that is gone when Try returns.
// Nothing on the host changes. The error names the first part that failed.
func Try() error {
	home, err := currentNamespace()
	if err != nil {
		return unreadable(err)
	}
	defer home.Close()
	return insideNew(home, func() error {
		nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("netlink: %w", err)
		}
		defer nl.Close()
		tap, err := attachTap(false)
		if err != nil {
			return fmt.Errorf("tap device: %w", err)
		}
		defer tap.Close()
		attrs := netlink.NewLinkAttrs()
		attrs.Name = uplinkName
		pair := netlink.NewVeth(attrs)
		pair.PeerName = "peer0"
		if err := nl.LinkAdd(pair); err != nil {
			return fmt.Errorf("veth pair: %w", err)
		}
		p := policy{name: DefaultName, prefix: candidates[0], nameservers: []netip.Addr{GatewayIP}, limits: DefaultLimits}
		hostEnd, hostIP := slotAddrs(p.prefix, 0)
		return install(append(sandboxTables(p, hostEnd, hostIP), hostTables(p)...))
	})
}

// ForwardDroppers lists the nft tables of others (such as Docker's, through
// iptables-nft) whose policy drops forwarded packets. An accept in a pool's own
// table does not overrule them: sandboxes have no way out until such a table
// accepts the pool's devices. It only reads.
func ForwardDroppers() ([]string, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, unreadable(err)
	}
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return nil, unreadable(err)
	}
	var found []string
	for _, c := range chains {
		forwards := c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward && c.Type == nftables.ChainTypeFilter
		if forwards && c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
			found = append(found, c.Table.Name)
		}
	}
	return found, nil
}
