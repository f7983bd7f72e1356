package network

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// guestName is the name of the guest's device in a namespace of its own.
const guestName = "eth0"

// GuestNamespace returns the path of a network namespace for the guest. The first call
// for a slot of AcquireNamespace returns the namespace that the slot was made with; any
// other call makes one, in place of the device that led to the guest before. A program
// that joins the namespace is the guest: the device in it has the guest's addresses, and
// its traffic meets the same rules as that of a VM.
//
// Each call returns another namespace, so that one VM can be started after another;
// that of the call before ends with its VM. The path is valid until the next call,
// Release, or the end of the agent. The namespace lives as long as a process is in
// it. OpenTap fails from the first call on.
func (s *Slot) GuestNamespace() (path string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.released {
		return "", errReleased()
	}
	if s.unused {
		s.unused = false
		return pathOf(s.guest), nil
	}
	ns, err := s.pool.newNamespace()
	if err != nil {
		return "", notAttached(err)
	}
	err = inside(s.pool.host, s.ns, func() error { return plugNamespace(ns, s.pool.policy) })
	if err == nil {
		err = inside(s.pool.host, ns, buildGuestEnd)
	}
	if err != nil {
		return "", notAttached(errors.Join(err, ns.Close()))
	}
	s.closeGuest()
	s.guest = ns
	return pathOf(ns), nil
}

// pathOf is the path of an open namespace for other processes.
func pathOf(ns *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd()) }

// newNamespace makes a network namespace that lives as long as it is open or used.
func (p *Pool) newNamespace() (ns *os.File, err error) {
	err = insideNew(p.host, func() (err error) { ns, err = currentNamespace(); return err })
	return ns, err
}

// closeGuest ends the agent's hold on the guest's namespace. mu must be held.
func (s *Slot) closeGuest() {
	if s.guest != nil {
		_ = s.guest.Close()
		s.guest = nil
	}
}

func notAttached(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return errReleased()
	}
	return fault.Wrap(err, fault.HostFailed, "network_not_made", "the sandbox's network device cannot be made")
}

// plugNamespace replaces the guest's end of the calling thread's namespace by a veth
// device whose peer is in guest. It has the name and the addresses of the tap
// device, so that the rules are the same. Those of the device itself end with it,
// and are made again before the new device is up.
func plugNamespace(guest *os.File, p policy) error {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()
	old, err := nl.LinkByName(tapName)
	if err == nil {
		err = nl.LinkDel(old)
	}
	if err != nil && !errors.As(err, new(netlink.LinkNotFoundError)) {
		return err
	}
	if err := addPair(nl, guest); err != nil {
		return err
	}
	if err := replace([]table{guardTable(p)}); err != nil {
		return err
	}
	return bringUpTap(nl)
}

// addPair makes the device tapName whose peer, the guest's device, is in the namespace guest.
func addPair(nl *netlink.Handle, guest *os.File) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = tapName, mustMAC(TapMAC)
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerHardwareAddr = guestName, mustMAC(GuestMAC)
	pair.PeerNamespace = netlink.NsFd(int(guest.Fd()))
	return nl.LinkAdd(pair)
}

// buildGuestEnd gives the device of the calling thread's namespace the guest's
// addresses. The neighbour entry is permanent, because a userspace network stack
// that takes the device over copies permanent entries only.
func buildGuestEnd() error {
	// The loopback keeps IPv6, because programs expect localhost to have ::1.
	for _, scope := range []struct{ name, disable string }{{"all", "1"}, {"default", "1"}, {"lo", "0"}} {
		if err := sysctl("ipv6/conf/"+scope.name+"/disable_ipv6", scope.disable); err != nil {
			return err
		}
	}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()
	lo := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: loopbackIndex}}
	if err := nl.LinkSetUp(lo); err != nil {
		return err
	}
	eth, err := nl.LinkByName(guestName)
	if err != nil {
		return err
	}
	if err := nl.AddrAdd(eth, addrOf(GuestIP, LinkBits)); err != nil {
		return err
	}
	if err := nl.LinkSetUp(eth); err != nil {
		return err
	}
	if err := nl.NeighSet(&netlink.Neigh{
		LinkIndex: eth.Attrs().Index, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT,
		IP: GatewayIP.AsSlice(), HardwareAddr: mustMAC(TapMAC),
	}); err != nil {
		return err
	}
	return nl.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: GatewayIP.AsSlice()})
}
