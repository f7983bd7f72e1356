package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// impatient is how long a test waits for a packet that must not come.
const impatient = 300 * time.Millisecond

// patient bounds a connection that must be made. The first packets through a
// new veth pair may be lost: when both ends have the same index in their
// namespaces, the kernel starts the second end's queue up to a second later
// (net/core/link_watch.c), and TCP repeats its SYN only after another second.
const patient = 30 * time.Second

func TestSlotIsMadeAndGone(t *testing.T) {
	needRoot(t)
	host := newSpace(t)
	p := host.open(Config{Name: uniqueName()})
	s := acquire(t, p, "one")
	if s.GuestIP != GuestIP || !p.Prefix().Contains(s.HostIP) {
		t.Fatalf("addresses %v and %v", s.GuestIP, s.HostIP)
	}
	if _, _, err := s.names.open(s.Netns); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Acquire(t.Context(), "one"); !fault.Is(err, fault.Exists) {
		t.Fatalf("second Acquire of one sandbox: %v", err)
	}
	tap, err := s.OpenTap() // keeps the namespace alive, as a connection does that ends slowly
	if err != nil {
		t.Fatal(err)
	}
	defer tap.Close()
	for range 2 {
		s.Release(t.Context())
	}
	awaitNoPair(t, p, s.Netns)
	if _, err := os.Stat(s.names.path(s.Netns)); !os.IsNotExist(err) {
		t.Fatalf("the name is still there: %v", err)
	}
	if _, err := s.OpenTap(); !fault.Is(err, fault.WrongState) {
		t.Fatalf("OpenTap after Release: %v", err)
	}
	if _, err := s.Dial(t.Context(), 80); !fault.Is(err, fault.WrongState) {
		t.Fatalf("Dial after Release: %v", err)
	}
	again := acquire(t, p, "one")
	if again.HostIP == s.HostIP {
		t.Fatal("the address was given out again at once")
	}
}

func TestTapHasOneUserAtATime(t *testing.T) {
	needRoot(t)
	p := newSpace(t).open(Config{Name: uniqueName()})
	s := acquire(t, p, "one")
	for range 2 {
		tap, err := s.OpenTap()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.OpenTap(); !fault.Is(err, fault.WrongState) {
			t.Fatalf("second OpenTap: %v", err)
		}
		if err := tap.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDial(t *testing.T) {
	needRoot(t)
	p := newSpace(t).open(Config{Name: uniqueName()})
	s := acquire(t, p, "one")
	guest := newGuest(t, s)
	guest.listen(":49983")
	c, err := s.Dial(t.Context(), AgentPort)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if got, err := io.ReadAll(c); err != nil || string(got) != GatewayIP.String() {
		t.Fatalf("the guest saw %q (%v), want the gateway", got, err)
	}
	if _, err := s.Dial(t.Context(), 1); fault.ReasonOf(err) != "port_refused" {
		t.Fatalf("closed port: %v", err)
	}
}

func TestDialHonoursItsContext(t *testing.T) {
	needRoot(t)
	p := newSpace(t).open(Config{Name: uniqueName()})
	s := acquire(t, p, "one")
	tap, err := s.OpenTap() // a guest that never answers
	if err != nil {
		t.Fatal(err)
	}
	defer tap.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := s.Dial(ctx, 80); !fault.Is(err, fault.Timeout) {
		t.Fatalf("dial to a silent guest: %v", err)
	}
	if took := time.Since(began); took > patient {
		t.Fatalf("gave up after %v", took)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := s.Dial(ctx, 80); !fault.Is(err, fault.Canceled) {
		t.Fatalf("cancelled dial: %v", err)
	}
}

// agentPorts are the ports that only Slot.Dial reaches.
var agentPorts = []string{":49982", ":49983"}

func TestHostReachesGuestThroughHostIP(t *testing.T) { withEachGuest(t, hostReachesGuest) }

func hostReachesGuest(t *testing.T, kind guestKind) {
	host := newSpace(t)
	p := host.open(Config{Name: uniqueName()})
	s := kind.acquire(t, p, "one")
	other := kind.acquire(t, p, "other")
	guest, neighbour := kind.plug(t, s), kind.plug(t, other)
	guest.listen(":8080")
	for _, port := range agentPorts {
		guest.listen(port)
	}
	got, err := host.ask(s.HostIP.String()+":8080", patient)
	if err != nil || got != s.hostEnd.String() {
		t.Fatalf("guest saw %q (%v), want %v", got, err, s.hostEnd)
	}
	for _, port := range agentPorts {
		if _, err := host.ask(s.HostIP.String()+port, impatient); err == nil {
			t.Fatalf("the agent's port %s is reachable through the host address", port)
		}
	}
	if _, err := neighbour.ask(s.HostIP.String()+":8080", impatient); err == nil {
		t.Fatal("one sandbox reached another")
	}
}

func TestEgressPolicy(t *testing.T) { withEachGuest(t, egressPolicy) }

func egressPolicy(t *testing.T, kind guestKind) {
	host := newSpace(t)
	resolver := "10.99.0.53"
	open := []string{"198.51.100.7", "8.8.8.8"}
	closed := []string{"10.99.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "198.18.0.1", resolver}
	world := outside(host, append(append([]string{}, open...), closed...)...)
	world.listen(":80")
	world.listen(":53")
	host.listen(":80")
	p := host.open(Config{Name: uniqueName(), Nameservers: addrs(resolver)})
	s := kind.acquire(t, p, "one")
	guest := kind.plug(t, s)

	for _, a := range open {
		got, err := guest.ask(a+":80", patient)
		if err != nil || got != "203.0.113.2" {
			t.Errorf("%s: saw %q (%v), want the host's address", a, got, err)
		}
	}
	if _, err := guest.ask(resolver+":53", patient); err != nil {
		t.Errorf("the nameserver cannot be asked: %v", err)
	}
	// The gateway, a neighbour and the host itself in the host's own network,
	// and every address of the host's that belongs to sandboxes.
	closed = append(closed, "203.0.113.1", "203.0.113.9", "203.0.113.2", s.hostEnd.String(), s.HostIP.String(), GatewayIP.String())
	for _, a := range closed {
		if _, err := guest.ask(a+":80", impatient); err == nil {
			t.Errorf("%s was reached", a)
		}
	}
	if _, err := world.ask(s.HostIP.String()+":80", impatient); err == nil {
		t.Error("the sandbox was reached from outside")
	}
}

// TestEgressIsLimited: a sandbox opens connections to addresses that are not denied and to
// exceptions, answers those of the host, and is limited after an agent has adopted it.
func TestEgressIsLimited(t *testing.T) { withEachGuest(t, egressIsLimited) }

func egressIsLimited(t *testing.T, kind guestKind) {
	host := newSpace(t)
	const exception, denied, resolver = "198.51.100.7", "198.51.100.8", "10.99.0.53"
	world := outside(host, exception, denied, resolver)
	world.listen(":80")
	world.listen(":53")
	cfg := Config{Name: uniqueName(), Nameservers: addrs(resolver)}
	p := host.open(cfg)
	s := kind.acquire(t, p, "one")
	if err := s.Limit(prefixes("0.0.0.0/0"), prefixes(exception+"/32")); err != nil {
		t.Fatal(err)
	}
	guest := kind.plug(t, s)
	guest.listen(":8080")
	check := func(when string, s *Slot) {
		t.Helper()
		if _, err := guest.ask(exception+":80", patient); err != nil {
			t.Errorf("%s: an address that is allowed: %v", when, err)
		}
		for _, a := range []string{denied + ":80", resolver + ":53"} {
			if _, err := guest.ask(a, impatient); err == nil {
				t.Errorf("%s: %s was reached", when, a)
			}
		}
		if _, err := host.ask(s.HostIP.String()+":8080", patient); err != nil {
			t.Errorf("%s: the host does not reach the guest: %v", when, err)
		}
	}
	check("from the start", s)
	rec := s.Record()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	adopted, err := host.open(cfg).Adopt("one", rec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { adopted.Release(context.Background()) })
	check("after an adoption", adopted)
	adopted.Release(t.Context())
	if err := adopted.Limit(prefixes("0.0.0.0/0"), nil); !fault.Is(err, fault.WrongState) {
		t.Errorf("limits after Release: %v, want a wrong state", err)
	}
}

// TestLimitsChange: the limits of a guest are replaced and removed while it runs. A
// connection that it has open to an address that is denied then is cut in both
// directions, one to another address is not, and neither are those of the host.
func TestLimitsChange(t *testing.T) { withEachGuest(t, limitsChange) }

func limitsChange(t *testing.T, kind guestKind) {
	host := newSpace(t)
	const kept, denied = "198.51.100.7", "198.51.100.8"
	world := outside(host, kept, denied)
	p := host.open(Config{Name: uniqueName()})
	s := kind.acquire(t, p, "one")
	guest := kind.plug(t, s)
	toDenied := converse(guest, denied+":80", world, denied+":80")
	others := map[string]*conversation{
		"to another address": converse(guest, kept+":80", world, kept+":80"),
		"of the host":        converse(host, s.HostIP.String()+":8080", guest, ":8080"),
	}
	for _, ranges := range [][]string{{denied + "/32"}, {"0.0.0.0/0"}, {"198.51.100.8/31", "192.0.2.0/24"}} {
		if err := s.Relimit(prefixes(ranges...), prefixes(kept+"/32")); err != nil {
			t.Fatal(err)
		}
		if err := toDenied.there(impatient); err == nil {
			t.Errorf("deny %v: the guest still sends to a denied address", ranges)
		}
		if err := toDenied.back(impatient); err == nil {
			t.Errorf("deny %v: the guest still receives from a denied address", ranges)
		}
		if _, err := guest.ask(denied+":80", impatient); err == nil {
			t.Errorf("deny %v: a new connection to a denied address was made", ranges)
		}
		for name, c := range others {
			if err := errors.Join(c.there(patient), c.back(patient)); err != nil {
				t.Errorf("deny %v: a connection %s: %v", ranges, name, err)
			}
		}
	}
	for range 2 {
		if err := s.Relimit(nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if lifted := converse(guest, denied+":81", world, denied+":81"); lifted.back(patient) != nil {
		t.Error("without limits the guest does not receive")
	}
	s.Release(t.Context())
	if err := s.Relimit(nil, nil); !fault.Is(err, fault.WrongState) {
		t.Errorf("Relimit after Release: %v, want a wrong state", err)
	}
}

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, t := range texts {
		all = append(all, netip.MustParsePrefix(t))
	}
	return all
}

func TestSpoofedSourceIsDropped(t *testing.T) { withEachGuest(t, spoofedSource) }

func spoofedSource(t *testing.T, kind guestKind) {
	host := newSpace(t)
	world := outside(host, "198.51.100.7")
	world.listen(":80")
	p := host.open(Config{Name: uniqueName()})
	s := kind.acquire(t, p, "one")
	guest := kind.plug(t, s)
	if _, err := guest.ask("198.51.100.7:80", patient); err != nil {
		t.Fatalf("without spoofing: %v", err)
	}
	// The namespace knows the way back to the spoofed address, so that only
	// the rules stand in its way.
	guest.do(func(nl *netlink.Handle) error {
		l, err := deviceOf(nl)
		if err != nil {
			return err
		}
		if err := nl.AddrDel(l, addrOf(GuestIP, LinkBits)); err != nil {
			return err
		}
		if err := nl.AddrAdd(l, addrOf(add(GuestIP, ^uint32(0)), LinkBits)); err != nil {
			return err
		}
		return nl.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: GatewayIP.AsSlice(), Flags: int(netlink.FLAG_ONLINK)})
	})
	if _, err := guest.ask("198.51.100.7:80", impatient); err == nil {
		t.Fatal("a foreign source address got through")
	}
}

// deviceOf returns the only device besides the loopback.
func deviceOf(nl *netlink.Handle) (netlink.Link, error) {
	links, err := nl.LinkList()
	if err != nil {
		return nil, err
	}
	links = slices.DeleteFunc(links, func(l netlink.Link) bool { return l.Attrs().Index == loopbackIndex })
	if len(links) != 1 {
		return nil, fmt.Errorf("there are %d devices besides the loopback", len(links))
	}
	return links[0], nil
}

// TestGuestNamespaceIsMadeAnew: each start of a guest gets a namespace of its own, also
// after the last guest took the addresses of its device, and Release ends it.
func TestGuestNamespaceIsMadeAnew(t *testing.T) {
	needRoot(t)
	host := newSpace(t)
	p := host.open(Config{Name: uniqueName()})
	s := acquireBy(t, p, "one", (*Pool).AcquireNamespace)
	first := joinGuest(t, s)
	first.do(func(nl *netlink.Handle) error {
		l, err := deviceOf(nl)
		if err != nil {
			return err
		}
		return nl.AddrDel(l, addrOf(GuestIP, LinkBits))
	})
	second := joinGuest(t, s)
	second.listen(":8080")
	c, err := s.Dial(t.Context(), 8080)
	if err != nil {
		t.Fatalf("dial to the second guest: %v", err)
	}
	_ = c.Close()
	first.do(func(nl *netlink.Handle) error {
		if l, err := deviceOf(nl); err == nil {
			t.Errorf("the first guest still has the device %s", l.Attrs().Name)
		}
		return nil
	})
	if tap, err := s.OpenTap(); err == nil {
		_ = tap.Close()
		t.Error("the tap device can be opened beside a guest in a namespace")
	}
	s.Release(t.Context())
	if _, err := s.GuestNamespace(); !fault.Is(err, fault.WrongState) {
		t.Errorf("a namespace after Release: %v, want a wrong state", err)
	}
	awaitNoPair(t, p, s.Netns)
}

func addrs(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, t := range texts {
		all = append(all, netip.MustParseAddr(t))
	}
	return all
}
