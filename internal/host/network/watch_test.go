package network

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// join connects the host to a further network, in which addr is somebody who
// listens on port 80.
func (s *space) join(device, hostAddr, addr string) {
	s.t.Helper()
	other := newSpace(s.t)
	s.do(func(nl *netlink.Handle) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = device
		pair := netlink.NewVeth(attrs)
		pair.PeerName, pair.PeerNamespace = "peer0", netlink.NsFd(int(other.ns.Fd()))
		if err := nl.LinkAdd(pair); err != nil {
			return err
		}
		return up(nl, device)
	})
	other.do(func(nl *netlink.Handle) error {
		l, err := nl.LinkByName("peer0")
		if err != nil {
			return err
		}
		if err := nl.AddrAdd(l, addrOf(netip.MustParseAddr(addr), 24)); err != nil {
			return err
		}
		if err := nl.LinkSetUp(l); err != nil {
			return err
		}
		// Answers to anybody go back to the host.
		return nl.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: netip.MustParseAddr(hostAddr).AsSlice()})
	})
	other.listen(":80")
	s.do(func(nl *netlink.Handle) error {
		l, err := nl.LinkByName(device)
		if err != nil {
			return err
		}
		return nl.AddrAdd(l, addrOf(netip.MustParseAddr(hostAddr), 24))
	})
}

// denies reports whether the rules of a table in the space deny addr.
func (s *space) denies(table, addr string) (denied bool) {
	s.t.Helper()
	s.do(func(*netlink.Handle) error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		set, err := conn.GetSetByName(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: table}, denySet)
		if err != nil {
			return err
		}
		elements, err := conn.GetSetElements(set)
		if err != nil {
			return err
		}
		// Each range is its first address and the first one after it.
		want := netip.MustParseAddr(addr)
		var at netip.Addr
		for _, e := range elements {
			key, _ := netip.AddrFromSlice(e.Key)
			if !want.Less(key) && (!at.IsValid() || at.Less(key)) {
				at, denied = key, !e.IntervalEnd
			}
		}
		return nil
	})
	return denied
}

// awaitNoPair waits until the host's end of a slot's pair is gone.
func awaitNoPair(t testing.TB, p *Pool, netns string) {
	t.Helper()
	await(t, "the host's end of the pair "+netns+" is gone", func() bool {
		_, err := p.nl.LinkByName(netns)
		return errors.As(err, new(netlink.LinkNotFoundError))
	})
}

// await waits until the condition holds.
func await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("in a minute it did not come about that %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// inSlot is a view into a slot's namespace.
func inSlot(t testing.TB, s *Slot) *space { return &space{t: t, home: s.pool.host, ns: s.ns} }

func TestNetworksJoinedLaterAreDenied(t *testing.T) { withEachGuest(t, networksJoinedLater) }

func networksJoinedLater(t *testing.T, kind guestKind) {
	const joined, tunnelled = "192.0.2.7", "198.51.100.7"
	host := newSpace(t)
	world := outside(host, joined, tunnelled)
	world.listen(":80")
	p := host.open(Config{Name: uniqueName()})
	before := kind.acquire(t, p, "before")
	guest := kind.plug(t, before)
	if _, err := guest.ask(joined+":80", patient); err != nil {
		t.Fatalf("before the host is in that network: %v", err)
	}

	host.join("lan1", "192.0.2.1", joined)
	deniedIn := func(s *space, table, addr string) func() bool {
		return func() bool { return s.denies(table, addr) }
	}
	await(t, "the host's rules deny the network it has joined", deniedIn(host, p.cfg.Name, joined))
	await(t, "the sandbox's rules deny the network the host has joined", deniedIn(inSlot(t, before), "sandbox", joined))
	after := kind.acquire(t, p, "after")
	if !inSlot(t, after).denies("sandbox", joined) {
		t.Error("a sandbox that is made afterwards may reach the network")
	}
	if _, err := host.ask(joined+":80", patient); err != nil {
		t.Errorf("the host itself: %v", err)
	}
	if _, err := guest.ask(joined+":80", impatient); err == nil {
		t.Error("the sandbox reached a network that the host has joined")
	}
	if _, err := guest.ask(tunnelled+":80", patient); err != nil {
		t.Errorf("an address outside is not reached any more: %v", err)
	}

	// A network that is behind a device, without an address of the host in it.
	host.do(func(nl *netlink.Handle) error {
		l, err := nl.LinkByName("lan1")
		if err != nil {
			return err
		}
		dst := addrOf(netip.MustParseAddr("198.51.100.0"), 24).IPNet
		return nl.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: dst, Scope: unix.RT_SCOPE_LINK})
	})
	await(t, "the rules deny a network with a route to a device", deniedIn(inSlot(t, after), "sandbox", tunnelled))

	host.do(func(nl *netlink.Handle) error {
		l, err := nl.LinkByName("lan1")
		if err != nil {
			return err
		}
		return nl.LinkDel(l)
	})
	// The kernel tells of the address that went with the device.
	for _, addr := range []string{joined, tunnelled} {
		await(t, "the rules allow "+addr+" again", func() bool {
			return !host.denies(p.cfg.Name, addr) && !inSlot(t, before).denies("sandbox", addr) && !inSlot(t, after).denies("sandbox", addr)
		})
	}
	if _, err := guest.ask(joined+":80", patient); err != nil {
		t.Errorf("after the host has left the network: %v", err)
	}
}

// TestAdoptedSlotGetsTheRulesOfThisAgent: limits and denials are those of the
// agent that runs.
func TestAdoptedSlotGetsTheRulesOfThisAgent(t *testing.T) {
	needRoot(t)
	host := newSpace(t)
	cfg := Config{Name: uniqueName(), Limits: Limits{-1, -1, -1}}
	p := host.open(cfg)
	s, err := p.Acquire(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	host.join("lan1", "192.0.2.1", "192.0.2.7")
	cfg.Limits = Limits{Connections: 5}
	p = host.open(cfg)
	adopted, err := p.Adopt("one", s.Record())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { adopted.Release(t.Context()) })
	if !inSlot(t, adopted).denies("sandbox", "192.0.2.7") {
		t.Error("the adopted slot may reach a network that the host joined without an agent")
	}
	if got, want := inSlot(t, adopted).ruleCount("forward"), len(sandboxTables(p.policy, s.hostEnd, s.HostIP)[1].chains[2].rules); got != want {
		t.Errorf("the adopted slot has %d rules for what it forwards, want %d", got, want)
	}
}

// ruleCount counts the rules of a chain of a sandbox's table.
func (s *space) ruleCount(chain string) (n int) {
	s.t.Helper()
	s.do(func(*netlink.Handle) error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		table := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "sandbox"}
		rules, err := conn.GetRules(table, &nftables.Chain{Name: chain, Table: table})
		n = len(rules)
		return err
	})
	return n
}
