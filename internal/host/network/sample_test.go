package network

import (
	"context"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// take takes a sample of the pool of cfg in the space.
func (s *space) take(cfg Config) (sample *Sample, err error) {
	_ = inside(s.home, s.ns, func() error {
		sample, err = TakeSample(context.Background(), cfg, s.discard())
		return nil
	})
	return sample, err
}

// TestSample checks that a sample reaches the same hosts as a sandbox, beside an agent and without
// one, and leaves everything as it was.
func TestSample(t *testing.T) {
	needRoot(t)
	host := newSpace(t)
	world := outside(host, "198.51.100.7", "10.99.0.1")
	world.listen(":80")
	cfg := Config{Name: uniqueName()}
	host.do(func(*netlink.Handle) error { return sysctl("ipv4/ip_forward", "0") })
	if _, err := host.take(cfg); !fault.Is(err, fault.WrongState) {
		t.Fatalf("without forwarding: got %v, want %v", err, fault.WrongState)
	}
	try := func(when string) {
		t.Helper()
		sample, err := host.take(cfg)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		defer sample.Close()
		ctx, cancel := context.WithTimeout(t.Context(), patient)
		defer cancel()
		c, err := sample.Dial(ctx, "tcp", "198.51.100.7:80")
		if err != nil {
			t.Fatalf("%s, the outside: %v", when, err)
		}
		_ = c.Close()
		short, cancel := context.WithTimeout(t.Context(), impatient)
		defer cancel()
		if c, err := sample.Dial(short, "tcp", "10.99.0.1:80"); err == nil {
			_ = c.Close()
			t.Errorf("%s, a private address was reached", when)
		}
	}
	p := host.open(cfg)
	s := acquire(t, p, "one")
	try("beside an agent")
	if names, err := p.namespaces(); err != nil || len(names) != 1 {
		t.Errorf("names afterwards: %v %v, want that of the slot", names, err)
	}
	if _, err := s.pool.nl.LinkByName(s.Netns); err != nil {
		t.Errorf("the agent's slot: %v", err)
	}
	s.Release(t.Context())
	try("beside an agent without slots")
	acquire(t, p, "two").Release(t.Context())
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	try("without an agent")
	if tables := host.tablesOf(); len(tables) > 0 {
		t.Errorf("tables afterwards: %v", tables)
	}
	host.do(func(nl *netlink.Handle) error {
		links, err := nl.LinkList()
		for _, l := range links {
			if _, ok := cfg.slotIndex(l.Attrs().Name); ok {
				t.Errorf("%s is left", l.Attrs().Name)
			}
		}
		return err
	})
	gone(t, cfg.Name)
	if _, err := new(StandIn).Dial(t.Context(), "tcp", "name.test:80"); !fault.Is(err, fault.Invalid) {
		t.Errorf("a name instead of an address: %v", err)
	}
}
