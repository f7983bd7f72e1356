package network

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// needRoot skips unless namespaces and devices can be made.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err == nil {
			_ = f.Close()
			return
		}
	}
	missing(t, "root and /dev/net/tun")
}

// missing skips the test because the host lacks what. It fails the test where
// WRENN_REQUIRE has root.
func missing(t testing.TB, what string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("WRENN_REQUIRE"), ","), "root") {
		t.Fatalf("this test is required and lacks %s", what)
	}
	t.Skipf("this test lacks %s", what)
}

// space is a network namespace of the test's own.
type space struct {
	t    testing.TB
	home *os.File
	ns   *os.File
}

// newSpace makes a namespace that ends with the test.
func newSpace(t testing.TB) *space {
	t.Helper()
	home, err := currentNamespace()
	if err != nil {
		t.Fatal(err)
	}
	s := &space{t: t, home: home}
	if err := insideNew(home, func() (err error) { s.ns, err = currentNamespace(); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.ns.Close(); _ = home.Close() })
	s.do(func(nl *netlink.Handle) error { return up(nl, "lo") })
	return s
}

// do runs fn in the namespace with a handle into it.
func (s *space) do(fn func(nl *netlink.Handle) error) {
	s.t.Helper()
	err := inside(s.home, s.ns, func() error {
		nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer nl.Close()
		return fn(nl)
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// open opens a pool whose host is the namespace.
func (s *space) open(cfg Config) *Pool {
	s.t.Helper()
	var p *Pool
	s.do(func(*netlink.Handle) (err error) {
		p, err = Open(cfg, s.discard())
		return err
	})
	s.t.Cleanup(func() {
		_, _ = p.Sweep(context.Background(), func(string) bool { return false })
		_ = p.Close()
	})
	return p
}

// listen answers TCP connections to addr in the namespace with the peer's
// address as the listener sees it.
func (s *space) listen(addr string) {
	s.t.Helper()
	s.do(func(*netlink.Handle) error {
		l, err := net.Listen("tcp4", addr)
		if err != nil {
			return err
		}
		var served sync.WaitGroup
		served.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, c.RemoteAddr().(*net.TCPAddr).IP.String())
				_ = c.Close()
			}
		})
		s.t.Cleanup(func() { _ = l.Close(); served.Wait() })
		return nil
	})
}

// ask connects from the namespace and returns the listener's answer.
func (s *space) ask(addr string, patience time.Duration) (string, error) {
	var answer []byte
	err := inside(s.home, s.ns, func() error {
		// A dialer with one literal address makes its socket on this thread.
		c, err := (&net.Dialer{Timeout: patience}).Dial("tcp4", addr)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		answer, err = io.ReadAll(c)
		return err
	})
	return string(answer), err
}

// conversation is an open TCP connection between two namespaces.
type conversation struct{ opener, listener net.Conn }

// converse opens a connection to dial in the namespace from, where the namespace to
// listens at the address listen.
func converse(from *space, dial string, to *space, listen string) *conversation {
	from.t.Helper()
	var l net.Listener
	c := &conversation{}
	to.do(func(*netlink.Handle) (err error) { l, err = net.Listen("tcp4", listen); return err })
	defer l.Close()
	from.do(func(*netlink.Handle) (err error) {
		c.opener, err = (&net.Dialer{Timeout: patient}).Dial("tcp4", dial)
		return err
	})
	var err error
	if c.listener, err = l.Accept(); err != nil {
		from.t.Fatal(err)
	}
	from.t.Cleanup(func() { _ = c.opener.Close(); _ = c.listener.Close() })
	return c
}

// there sends a byte from the side that opened the connection to the other one, back
// sends one the other way.
func (c *conversation) there(patience time.Duration) error {
	return carry(c.opener, c.listener, patience)
}
func (c *conversation) back(patience time.Duration) error {
	return carry(c.listener, c.opener, patience)
}

func carry(from, to net.Conn, patience time.Duration) error {
	if _, err := from.Write([]byte{1}); err != nil {
		return err
	}
	_ = to.SetReadDeadline(time.Now().Add(patience))
	_, err := io.ReadFull(to, make([]byte, 1))
	return err
}

func up(nl *netlink.Handle, name string) error {
	l, err := nl.LinkByName(name)
	if err != nil {
		return err
	}
	return nl.LinkSetUp(l)
}

// outside connects host to a world that has the given addresses, by a route
// through a gateway, as the internet is.
func outside(host *space, addrs ...string) *space {
	host.t.Helper()
	world := newSpace(host.t)
	gateway := netip.MustParseAddr("203.0.113.1")
	host.do(func(nl *netlink.Handle) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "wan0"
		pair := netlink.NewVeth(attrs)
		pair.PeerName, pair.PeerNamespace = "lan0", netlink.NsFd(int(world.ns.Fd()))
		if err := nl.LinkAdd(pair); err != nil {
			return err
		}
		l, err := nl.LinkByName("wan0")
		if err != nil {
			return err
		}
		if err := nl.AddrAdd(l, addrOf(netip.MustParseAddr("203.0.113.2"), 24)); err != nil {
			return err
		}
		return up(nl, "wan0")
	})
	world.do(func(nl *netlink.Handle) error {
		l, err := nl.LinkByName("lan0")
		if err != nil {
			return err
		}
		lo, err := nl.LinkByName("lo")
		if err != nil {
			return err
		}
		for _, a := range addrs {
			if err := nl.AddrAdd(lo, addrOf(netip.MustParseAddr(a), 32)); err != nil {
				return err
			}
		}
		if err := nl.AddrAdd(l, addrOf(gateway, 24)); err != nil {
			return err
		}
		return up(nl, "lan0")
	})
	host.do(func(nl *netlink.Handle) error {
		return nl.RouteAdd(&netlink.Route{Gw: gateway.AsSlice()})
	})
	return world
}

// newGuest plugs a stand-in for a guest into the slot's tap.
func newGuest(t testing.TB, s *Slot) *space {
	t.Helper()
	guest, err := s.Plug()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(guest.Unplug)
	return &space{t: t, home: guest.home, ns: guest.ns}
}

// joinGuest puts a stand-in for a guest into the slot's namespace for guests.
func joinGuest(t testing.TB, s *Slot) *space {
	t.Helper()
	path, err := s.GuestNamespace()
	if err != nil {
		t.Fatal(err)
	}
	ns, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return &space{t: t, home: s.pool.host, ns: ns}
}

// guestKind is a kind of guest: how its slot is acquired, and how a stand-in for it is
// connected to the slot.
type guestKind struct {
	take func(*Pool, context.Context, string) (*Slot, error)
	plug func(testing.TB, *Slot) *space
}

func (k guestKind) acquire(t testing.TB, p *Pool, id string) *Slot {
	t.Helper()
	return acquireBy(t, p, id, k.take)
}

// withEachGuest runs test with guests of either attachment, and with a namespace that
// replaces a tap.
func withEachGuest(t *testing.T, test func(*testing.T, guestKind)) {
	t.Helper()
	needRoot(t)
	t.Run("tap", func(t *testing.T) { test(t, guestKind{(*Pool).Acquire, newGuest}) })
	t.Run("namespace", func(t *testing.T) { test(t, guestKind{(*Pool).AcquireNamespace, joinGuest}) })
	t.Run("namespace for tap", func(t *testing.T) { test(t, guestKind{(*Pool).Acquire, joinGuest}) })
}

// uniqueName names a pool so that tests of several processes do not meet.
func uniqueName() string { return fmt.Sprintf("wt%06x", rand.Uint32()&0xffffff) }

func acquire(t testing.TB, p *Pool, id string) *Slot {
	t.Helper()
	return acquireBy(t, p, id, (*Pool).Acquire)
}

func acquireBy(t testing.TB, p *Pool, id string, take func(*Pool, context.Context, string) (*Slot, error)) *Slot {
	t.Helper()
	s, err := take(p, t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Release(context.Background()) })
	return s
}

func (s *space) discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
