package network

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"pgregory.net/rapid"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

func TestMergeCoversExactlyTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
			a := add(netip.AddrFrom4([4]byte{}), rapid.Uint32().Draw(t, "address"))
			return netip.PrefixFrom(a, rapid.IntRange(0, 32).Draw(t, "bits"))
		})
		prefixes := rapid.SliceOfN(prefix, 0, 12).Draw(t, "prefixes")
		spans := merge(prefixes)
		for i, s := range spans {
			if s.last.Less(s.first) {
				t.Fatalf("range %v ends before it begins", s)
			}
			if i > 0 && touches(spans[i-1], s) {
				t.Fatalf("ranges %v and %v are not apart", spans[i-1], s)
			}
		}
		probes := []netip.Addr{add(netip.AddrFrom4([4]byte{}), rapid.Uint32().Draw(t, "probe"))}
		for _, p := range prefixes {
			probes = append(probes, p.Masked().Addr(), lastOf(p), add(lastOf(p), 1), add(p.Masked().Addr(), ^uint32(0)))
		}
		for _, a := range probes {
			if got, want := inSpans(spans, a), inPrefixes(prefixes, a); got != want {
				t.Fatalf("%v covered: %v, want %v by %v", a, got, want, prefixes)
			}
		}
	})
}

func inSpans(spans []span, a netip.Addr) bool {
	for _, s := range spans {
		if !a.Less(s.first) && !s.last.Less(a) {
			return true
		}
	}
	return false
}

func inPrefixes(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Masked().Contains(a) {
			return true
		}
	}
	return false
}

func TestIndexesRest(t *testing.T) {
	now := time.Unix(1000, 0)
	x := newIndexes(2)
	a, _ := x.next(now)
	b, _ := x.next(now)
	if _, ok := x.next(now); ok || a == b {
		t.Fatalf("gave out %d, %d and a third of two", a, b)
	}
	x.put(a, now)
	if _, ok := x.next(now.Add(coolDown - 1)); ok {
		t.Fatal("a number was given out before it had rested")
	}
	if got, ok := x.next(now.Add(coolDown)); !ok || got != a {
		t.Fatalf("after the rest: %d %v, want %d", got, ok, a)
	}
	x.put(a, now)
	if !x.hold(a) || x.hold(a) || x.hold(-1) || x.hold(2) {
		t.Fatal("hold must take a resting number, once, and only one that exists")
	}
}

func TestSlotAddrsAreApart(t *testing.T) {
	p := netip.MustParsePrefix("10.201.0.0/16")
	seen := map[netip.Addr]bool{}
	for i := range slotCount(p) {
		hostEnd, hostIP := slotAddrs(p, i)
		if !p.Contains(hostEnd) || !p.Contains(hostIP) || seen[hostEnd] || seen[hostIP] {
			t.Fatalf("slot %d: %v %v", i, hostEnd, hostIP)
		}
		seen[hostEnd], seen[hostIP] = true, true
	}
}

func TestSlotNames(t *testing.T) {
	c := Config{Name: "abcdefghij"}
	for _, i := range []int{0, 1, 0xffff} {
		name := c.slotName(i)
		if got, ok := c.slotIndex(name); !ok || got != i || len(name) > 15 {
			t.Errorf("%q: %d %v, want %d", name, got, ok, i)
		}
	}
	for _, name := range []string{"", "abcdefghij", "abcdefghij-", "abcdefghij-00FF", "abcdefghij-0x1f", "abcdefghix-0001", "abcdefghij-00001", "abcdefghij-+001"} {
		if i, ok := c.slotIndex(name); ok {
			t.Errorf("%q is taken for slot %d", name, i)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []Config{
		{Name: "Upper"}, {Name: "a-b"}, {Name: "elevenchars"}, {Name: "1a"},
		{Prefix: netip.MustParsePrefix("10.0.0.0/8")}, {Prefix: netip.MustParsePrefix("10.0.0.0/31")},
		{Prefix: netip.MustParsePrefix("10.201.0.1/16")}, {Prefix: netip.MustParsePrefix("fd00::/64")},
	} {
		if _, err := c.withDefaults(); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	got, err := Config{Nameservers: addrs("127.0.0.53", "::1", "::ffff:9.9.9.9", "10.0.0.1")}.withDefaults()
	if err != nil || got.Name != DefaultName || len(got.Nameservers) != 2 || got.Nameservers[0] != netip.MustParseAddr("9.9.9.9") {
		t.Errorf("defaults: %+v %v", got, err)
	}
}

func TestPreferred(t *testing.T) {
	if got := preferred(candidates, addrs("10.213.4.1")); len(got) != 1 || got[0] != candidates[2] {
		t.Errorf("with slots of an earlier agent: %v", got)
	}
	if got := preferred(candidates, addrs("192.0.2.1")); len(got) != len(candidates) {
		t.Errorf("with foreign addresses only: %v", got)
	}
}

// TestDumpIsReadAgain: a list that changed while it was read.
func TestDumpIsReadAgain(t *testing.T) {
	for interrupted, want := range map[int]int{0: 1, 3: 4, dumpTries: dumpTries} {
		reads := 0
		got, err := dump(func() ([]int, error) {
			reads++
			if reads <= interrupted {
				return []int{0}, netlink.ErrDumpInterrupted
			}
			return []int{1}, nil
		})
		if err != nil || len(got) != 1 || reads != want {
			t.Errorf("%d interruptions: %v %v after %d reads, want %d", interrupted, got, err, reads, want)
		}
	}
	broken := errors.New("broken")
	if _, err := dump(func() ([]int, error) { return nil, broken }); err != broken {
		t.Errorf("got %v, want the error", err)
	}
}
