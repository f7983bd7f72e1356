package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// build fills the calling thread's new namespace and, last, gives it its name:
// a namespace that has a name is complete and marked. On error the namespace
// has no name and dies with all its devices when the thread leaves it.
func (p *Pool) build(s *Slot, rules policy, namespace bool) error {
	// IPv6 is off before the first device exists: the rules cover IPv4 only.
	for _, kv := range [][2]string{
		{"ipv6/conf/all/disable_ipv6", "1"},
		{"ipv6/conf/default/disable_ipv6", "1"},
		{"ipv4/ip_forward", "1"},
	} {
		if err := sysctl(kv[0], kv[1]); err != nil {
			return fmt.Errorf("sysctl %s: %w", kv[0], err)
		}
	}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer nl.Close()
	if err := buildLoopback(nl, p.cfg.mark(s.ID)); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	if err := p.buildGuest(nl, s, namespace); err != nil {
		return fmt.Errorf("guest's device: %w", err)
	}
	if err := p.buildUplink(nl, s); err != nil {
		return fmt.Errorf("veth pair: %w", err)
	}
	if err := install(sandboxTables(rules, s.hostEnd, s.HostIP)); err != nil {
		return err
	}
	if err := p.names.bind(s.Netns); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	return nil
}

// loopbackIndex is the index of the loopback device of every namespace: it is
// the first device that the kernel makes in it.
const loopbackIndex = 1

// buildLoopback marks the namespace as ours.
func buildLoopback(nl *netlink.Handle, mark string) error {
	lo := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: loopbackIndex}}
	if err := nl.LinkSetAlias(lo, mark); err != nil {
		return err
	}
	return nl.LinkSetUp(lo)
}

// buildGuest makes the device that leads to the guest: a tap, or one whose peer is in
// a namespace for the guest.
func (p *Pool) buildGuest(nl *netlink.Handle, s *Slot, namespace bool) error {
	if !namespace {
		return buildTap(nl)
	}
	ns, err := p.newNamespace()
	if err != nil {
		return err
	}
	s.guest, s.unused = ns, true
	if err := addPair(nl, ns); err != nil {
		return err
	}
	if err := bringUpTap(nl); err != nil {
		return err
	}
	return inside(p.host, ns, buildGuestEnd)
}

// buildTap makes the guest's end of the namespace. The neighbour entry is
// permanent so that no connection waits for a guest to answer ARP.
func buildTap(nl *netlink.Handle) error {
	f, err := attachTap(true)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	tap, err := nl.LinkByName(tapName)
	if err != nil {
		return err
	}
	if err := nl.LinkSetHardwareAddr(tap, mustMAC(TapMAC)); err != nil {
		return err
	}
	return bringUpTap(nl)
}

// bringUpTap gives the tap device its address and neighbour and sets it up.
func bringUpTap(nl *netlink.Handle) error {
	tap, err := nl.LinkByName(tapName)
	if err != nil {
		return err
	}
	if err := nl.AddrAdd(tap, addrOf(GatewayIP, LinkBits)); err != nil {
		return err
	}
	if err := nl.LinkSetUp(tap); err != nil {
		return err
	}
	return nl.NeighSet(&netlink.Neigh{
		LinkIndex: tap.Attrs().Index, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT,
		IP: GuestIP.AsSlice(), HardwareAddr: mustMAC(GuestMAC),
	})
}

// buildUplink makes the veth pair, one end here and one in the host, and the
// default route through it.
func (p *Pool) buildUplink(nl *netlink.Handle, s *Slot) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = uplinkName
	pair := netlink.NewVeth(attrs)
	pair.PeerName = s.Netns
	pair.PeerNamespace = netlink.NsFd(int(p.host.Fd()))
	if err := nl.LinkAdd(pair); err != nil {
		return err
	}
	if err := p.buildHostEnd(s); err != nil {
		return err
	}
	if err := nl.AddrAdd(pair, addrOf(s.HostIP, slotBits)); err != nil {
		return err
	}
	if err := nl.LinkSetUp(pair); err != nil {
		return err
	}
	return nl.RouteAdd(&netlink.Route{LinkIndex: pair.Attrs().Index, Gw: s.hostEnd.AsSlice()})
}

// buildHostEnd sets up the veth end that is in the host. Strict reverse path
// filtering refuses any source there that is not the slot's own.
func (p *Pool) buildHostEnd(s *Slot) error {
	err := inside(p.host, p.host, func() error {
		if err := sysctl("ipv6/conf/"+s.Netns+"/disable_ipv6", "1"); err != nil {
			return err
		}
		return sysctl("ipv4/conf/"+s.Netns+"/rp_filter", "1")
	})
	if err != nil {
		return err
	}
	end, err := p.nl.LinkByName(s.Netns)
	if err != nil {
		return err
	}
	if err := p.nl.LinkSetAlias(end, p.cfg.mark(s.ID)); err != nil {
		return err
	}
	if err := p.nl.AddrAdd(end, addrOf(s.hostEnd, slotBits)); err != nil {
		return err
	}
	return p.nl.LinkSetUp(end)
}

// dropHostEnd removes both ends of the veth pair called name if its mark is
// ours. A pair that is not there is success.
func (p *Pool) dropHostEnd(name string, ours func(mark string) bool) error {
	end, err := p.nl.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return err
	}
	if !ours(end.Attrs().Alias) {
		return nil
	}
	// ENODEV, EINVAL: its namespace has just gone and taken it along.
	return ignore(p.nl.LinkDel(end), unix.ENODEV, unix.EINVAL)
}

// attachTap opens the tap device of the calling thread's namespace. With
// create it makes it, to persist without anybody having it open. The header in
// front of each frame (vnet_hdr) lets guest and host pass large segments
// without checksums; a VM restored from a snapshot needs it to be as it was.
func attachTap(create bool) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	request, err := unix.NewIfreq(tapName)
	if err == nil {
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err == nil && create {
		err = unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), tapName), nil
}

func addrOf(a netip.Addr, bits int) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, 32)}}
}
