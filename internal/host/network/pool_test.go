package network

import (
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

func none(string) bool { return false }

// tablesOf lists the names of the namespace's nft tables.
func (s *space) tablesOf() []string {
	s.t.Helper()
	var names []string
	s.do(func(*netlink.Handle) error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := conn.ListTables()
		for _, t := range tables {
			names = append(names, t.Name)
		}
		return err
	})
	return names
}

func TestConcurrentAcquiresAreApart(t *testing.T) {
	needRoot(t)
	p := newSpace(t).open(Config{Name: uniqueName()})
	const n = 20
	slots := make([]*Slot, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			s, err := p.Acquire(t.Context(), "sandbox-"+string(rune('a'+i)))
			if err != nil {
				t.Error(err)
				return
			}
			slots[i] = s
		})
	}
	all.Wait()
	seen := map[netip.Addr]bool{}
	for _, s := range slots {
		if s == nil {
			continue
		}
		if seen[s.HostIP] {
			t.Errorf("%v was given to two sandboxes", s.HostIP)
		}
		seen[s.HostIP] = true
	}
	for _, s := range slots {
		if s == nil {
			continue
		}
		all.Go(func() { s.Release(t.Context()) })
	}
	all.Wait()
	if names, err := p.namespaces(); err != nil || len(names) > 0 {
		t.Fatalf("left behind: %v %v", names, err)
	}
}

func TestAdoptAfterRestart(t *testing.T) {
	needRoot(t)
	host := newSpace(t)
	cfg := Config{Name: uniqueName()}
	p := host.open(cfg)
	s, err := p.Acquire(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	guest := newGuest(t, s)
	guest.listen(":8080")
	rec := s.Record()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(host.tablesOf(), cfg.Name) {
		t.Fatal("the host's rules went although a slot lives")
	}

	p = host.open(cfg)
	if got := p.Prefix(); !got.Contains(rec.HostIP) {
		t.Fatalf("the new pool uses %v although a slot of the old has %v", got, rec.HostIP)
	}
	fresh := acquire(t, p, "two")
	if fresh.Index == rec.Index {
		t.Fatal("a living slot's index was given out before it was adopted")
	}
	for name, bad := range map[string]func(*Record){
		"inode": func(r *Record) { r.Inode++ },
		"index": func(r *Record) { r.Index++ },
		"name":  func(r *Record) { r.Netns = "../" + r.Netns },
		"host":  func(r *Record) { r.HostIP = r.HostIP.Next() },
		"gone":  func(r *Record) { r.Index = 0x3fff; r.Netns = cfg.slotName(0x3fff) },
	} {
		r := rec
		bad(&r)
		if _, err := p.Adopt("one", r); !fault.Is(err, fault.NotFound) {
			t.Errorf("record with a wrong %s: %v", name, err)
		}
	}
	if _, err := p.Adopt("other", rec); !fault.Is(err, fault.NotFound) {
		t.Errorf("another sandbox's record: %v", err)
	}
	adopted, err := p.Adopt("one", rec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Adopt("one", rec); !fault.Is(err, fault.Exists) {
		t.Errorf("second Adopt: %v", err)
	}
	c, err := adopted.Dial(t.Context(), 8080)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if adopted.Record() != rec {
		t.Errorf("record %+v, want %+v", adopted.Record(), rec)
	}
	if removed, err := p.Sweep(t.Context(), none); err != nil || len(removed) > 0 {
		t.Fatalf("Sweep removed slots of the pool: %v %v", removed, err)
	}
	for _, s := range []*Slot{adopted, fresh} {
		s.Release(t.Context())
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got := host.tablesOf(); len(got) > 0 {
		t.Fatalf("tables left after the last slot: %v", got)
	}
}

func TestSweepTakesOnlyItsOwn(t *testing.T) {
	needRoot(t)
	host := newSpace(t)
	cfg := Config{Name: uniqueName()}
	other := host.open(Config{Name: uniqueName()})
	theirs := acquire(t, other, "theirs")
	p := host.open(cfg)
	if p.Prefix().Overlaps(other.Prefix()) {
		t.Fatalf("two pools use %v and %v", p.Prefix(), other.Prefix())
	}
	orphan, err := p.Acquire(t.Context(), "orphan")
	if err != nil {
		t.Fatal(err)
	}
	wanted, err := p.Acquire(t.Context(), "wanted")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	// A stranger's file that happens to have a name of ours, and the remains
	// of a crash between claiming a name and mounting it.
	stranger, half := cfg.slotName(100), cfg.slotName(101)
	strangerPath := p.names.path(stranger)
	if err := os.WriteFile(strangerPath, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(strangerPath); _ = namesOf(cfg.Name).retire() })
	if err := p.names.claim(half, cfg.mark("half")); err != nil {
		t.Fatal(err)
	}

	p = host.open(cfg)
	held := acquire(t, p, "held")
	removed, err := p.Sweep(t.Context(), func(name string) bool { return name == wanted.Netns })
	slices.Sort(removed)
	if want := []string{orphan.Netns, half}; err != nil || !slices.Equal(removed, want) {
		t.Fatalf("removed %v (%v), want %v", removed, err, want)
	}
	for name, dir := range map[string]nameDir{theirs.Netns: other.names, held.Netns: p.names, wanted.Netns: p.names} {
		if _, _, err := dir.open(name); err != nil {
			t.Errorf("%s was removed: %v", name, err)
		}
	}
	if _, err := os.Stat(strangerPath); err != nil {
		t.Errorf("a stranger's file was removed: %v", err)
	}
	removed, err = p.Sweep(t.Context(), none)
	if want := []string{wanted.Netns}; err != nil || !slices.Equal(removed, want) {
		t.Fatalf("then removed %v (%v), want %v", removed, err, want)
	}
}

func TestSweepRemovesNamelessLeftovers(t *testing.T) {
	needRoot(t)
	host := newSpace(t)
	cfg := Config{Name: uniqueName()}
	p := host.open(cfg)
	s, err := p.Acquire(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	tap, err := s.OpenTap() // keeps the namespace alive without its name
	if err != nil {
		t.Fatal(err)
	}
	defer tap.Close()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.names.drop(s.Netns); err != nil {
		t.Fatal(err)
	}
	p = host.open(cfg)
	removed, err := p.Sweep(t.Context(), none)
	if want := []string{s.Netns}; err != nil || !slices.Equal(removed, want) {
		t.Fatalf("removed %v (%v), want %v", removed, err, want)
	}
	host.do(func(nl *netlink.Handle) error {
		links, err := nl.LinkList()
		for _, l := range links {
			if strings.HasPrefix(l.Attrs().Name, cfg.Name) {
				t.Errorf("%s is still there", l.Attrs().Name)
			}
		}
		return err
	})
}

func TestPrefixAvoidsTheHostsRoutes(t *testing.T) {
	needRoot(t)
	host := newSpace(t)
	host.do(func(nl *netlink.Handle) error {
		lo, err := nl.LinkByName("lo")
		if err != nil {
			return err
		}
		for _, r := range []string{"10.201.7.0/24", "10.202.0.0/15"} {
			dst, err := netlink.ParseIPNet(r)
			if err != nil {
				return err
			}
			if err := nl.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: dst, Scope: unix.RT_SCOPE_LINK}); err != nil {
				return err
			}
		}
		return nil
	})
	if got := host.open(Config{Name: uniqueName()}).Prefix(); got != candidates[2] {
		t.Errorf("chose %v, want %v", got, candidates[2])
	}
	host.do(func(*netlink.Handle) error {
		_, err := Open(Config{Name: uniqueName(), Prefix: candidates[0]}, host.discard())
		if !fault.Is(err, fault.Exists) {
			t.Errorf("a demanded range that is in use: %v", err)
		}
		return nil
	})
}

func TestSmallPrefixRunsOut(t *testing.T) {
	needRoot(t)
	p := newSpace(t).open(Config{Name: uniqueName(), Prefix: netip.MustParsePrefix("10.201.0.0/29")})
	acquire(t, p, "one")
	acquire(t, p, "two")
	if _, err := p.Acquire(t.Context(), "three"); !fault.Is(err, fault.NoCapacity) {
		t.Fatalf("third of two: %v", err)
	}
}

func BenchmarkAcquireRelease(b *testing.B) {
	needRoot(b)
	p := newSpace(b).open(Config{Name: uniqueName(), Nameservers: addrs("9.9.9.9")})
	for b.Loop() {
		s, err := p.Acquire(b.Context(), "one")
		if err != nil {
			b.Fatal(err)
		}
		s.Release(b.Context())
	}
}

// BenchmarkAcquire is Acquire alone: without old namespaces that the kernel
// takes down at the same time.
func BenchmarkAcquire(b *testing.B) {
	needRoot(b)
	p := newSpace(b).open(Config{Name: uniqueName(), Nameservers: addrs("9.9.9.9")})
	n := 0
	for b.Loop() {
		n++
		acquire(b, p, strconv.Itoa(n))
	}
}

func BenchmarkDial(b *testing.B) {
	needRoot(b)
	p := newSpace(b).open(Config{Name: uniqueName()})
	s := acquire(b, p, "one")
	newGuest(b, s).listen(":80")
	for b.Loop() {
		c, err := s.Dial(b.Context(), 80)
		if err != nil {
			b.Fatal(err)
		}
		_ = c.Close()
	}
}
