package network

import (
	"testing"

	"pgregory.net/rapid"
)

// TestNumbersAreApart: slots of two ranges that do not overlap never have the
// same number.
func TestNumbersAreApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) *Slot {
			p := candidates[rapid.IntRange(0, len(candidates)-1).Draw(t, name+" range")]
			hostEnd, hostIP := slotAddrs(p, rapid.IntRange(0, slotCount(p)-1).Draw(t, name+" index"))
			return &Slot{hostEnd: hostEnd, HostIP: hostIP}
		}
		a, b := draw("one"), draw("two")
		if (a.Number() == b.Number()) != (a.HostIP == b.HostIP) || a.Number() >= 1<<30 {
			t.Fatalf("%v has number %d, %v has %d", a.HostIP, a.Number(), b.HostIP, b.Number())
		}
	})
}

// TestNumbersOfTwoAgents: also when one has ended and its slot lives on.
func TestNumbersOfTwoAgents(t *testing.T) {
	needRoot(t)
	host := newSpace(t)
	first, second := host.open(Config{Name: uniqueName()}), host.open(Config{Name: uniqueName()})
	seen := map[uint32]string{}
	note := func(s *Slot) {
		t.Helper()
		if other, taken := seen[s.Number()]; taken {
			t.Errorf("%s and %s have the number %d", other, s.ID, s.Number())
		}
		seen[s.Number()] = s.ID
	}
	one, err := first.Acquire(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	note(one)
	note(acquire(t, second, "two"))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	third := host.open(Config{Name: uniqueName()})
	note(acquire(t, third, "three"))
	successor := host.open(first.cfg)
	note(acquire(t, successor, "four"))
}
