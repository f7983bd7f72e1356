package network

import (
	"slices"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

func TestTry(t *testing.T) {
	needRoot(t)
	if err := Try(); err != nil {
		t.Fatal(err)
	}
}

func TestForwardDroppers(t *testing.T) {
	needRoot(t)
	host := newSpace(t)
	p := host.open(Config{Name: uniqueName()})
	look := func() (found []string) {
		host.do(func(*netlink.Handle) (err error) { found, err = ForwardDroppers(); return err })
		return found
	}
	if got := look(); len(got) > 0 {
		t.Fatalf("the table of %s counts as somebody's drop: %v", p.cfg.Name, got)
	}
	host.do(func(*netlink.Handle) error {
		return install([]table{{family: nftables.TableFamilyIPv4, name: "filter", chains: []chain{
			{name: "FORWARD", kind: nftables.ChainTypeFilter, hook: hookForward, drop: true},
		}}})
	})
	if got := look(); !slices.Equal(got, []string{"filter"}) {
		t.Fatalf("found %v, want filter", got)
	}
}
