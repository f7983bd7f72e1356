package network

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// StandIn takes the place of a guest: a network namespace with a guest's
// addresses, connected to a slot's tap as a VM is. Connections from it meet the
// rules that connections of a guest meet.
type StandIn struct {
	home, ns *os.File
	ends     [2]*os.File // the taps of the slot and of the namespace
	cable    sync.WaitGroup
}

// Plug connects a stand-in to the slot. It fails with fault.WrongState while a
// VMM has the tap open.
func (s *Slot) Plug() (_ *StandIn, err error) {
	g := &StandIn{home: s.pool.host}
	defer func() {
		if err != nil {
			g.Unplug()
		}
	}()
	if err := insideNew(g.home, func() (err error) { g.ns, err = currentNamespace(); return err }); err != nil {
		return nil, notMade(err)
	}
	if g.ends[0], err = s.OpenTap(); err != nil {
		return nil, err
	}
	if err := inside(g.home, g.ns, g.build); err != nil {
		return nil, notMade(err)
	}
	g.cable.Go(func() { copyFrames(g.ends[1], g.ends[0]) })
	g.cable.Go(func() { copyFrames(g.ends[0], g.ends[1]) })
	return g, nil
}

// build fills the calling thread's namespace.
func (g *StandIn) build() error {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()
	if g.ends[1], err = attachTap(false); err != nil {
		return err
	}
	lo := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: loopbackIndex}}
	if err := nl.LinkSetUp(lo); err != nil {
		return err
	}
	l, err := nl.LinkByName(tapName)
	if err != nil {
		return err
	}
	if err := nl.LinkSetHardwareAddr(l, mustMAC(GuestMAC)); err != nil {
		return err
	}
	if err := nl.AddrAdd(l, addrOf(GuestIP, LinkBits)); err != nil {
		return err
	}
	if err := nl.LinkSetUp(l); err != nil {
		return err
	}
	return nl.RouteAdd(&netlink.Route{Gw: GatewayIP.AsSlice()})
}

// copyFrames copies frames until one of the ends is closed.
func copyFrames(to, from *os.File) {
	frame := make([]byte, 70<<10)
	for {
		n, err := from.Read(frame)
		if err != nil {
			return
		}
		if _, err := to.Write(frame[:n]); errors.Is(err, os.ErrClosed) {
			return
		}
	}
}

// Dial connects from the stand-in to an address, which must be a literal one:
// names are looked up elsewhere.
func (g *StandIn) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil || net.ParseIP(host) == nil {
		return nil, fault.New(fault.Invalid, "bad_address", "%q is not an IP address and a port", address)
	}
	var c net.Conn
	err = inside(g.home, g.ns, func() (err error) {
		// With one literal address the dialer makes its socket on this thread.
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Unplug removes the stand-in. Its connections break.
func (g *StandIn) Unplug() {
	for _, f := range []*os.File{g.ends[0], g.ends[1]} {
		if f != nil {
			_ = f.Close()
		}
	}
	g.cable.Wait()
	if g.ns != nil {
		_ = g.ns.Close()
	}
}
