package network

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

var update = flag.Bool("update", false, "write the golden files anew")

func examplePolicy() policy {
	return policy{
		name: "wrenn", prefix: netip.MustParsePrefix("10.201.0.0/16"),
		hostAddrs:   []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("203.0.113.2/32")},
		nameservers: addrs("10.0.0.53", "9.9.9.9"), limits: DefaultLimits,
	}
}

func text(tables []table) string {
	var b strings.Builder
	for _, t := range tables {
		b.WriteString(t.String())
	}
	return b.String()
}

func exampleTables() map[string][]table {
	p := examplePolicy()
	hostEnd, hostIP := slotAddrs(p.prefix, 5)
	return map[string][]table{"host.nft": hostTables(p), "sandbox.nft": sandboxTables(p, hostEnd, hostIP),
		"egress.nft": {egressTable(prefixes("0.0.0.0/0"), prefixes("198.51.100.0/24", "203.0.113.7/32"))}}
}

func TestRulesGolden(t *testing.T) {
	for name, tables := range exampleTables() {
		path := filepath.Join("testdata", name)
		got := text(tables)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: rules changed:\n%s", name, got)
		}
	}
}

// TestKernelHasTheRulesAsWritten compares the rules that nft(8) reads back from the
// kernel with the golden text: the expressions mean the same as the text.
func TestKernelHasTheRulesAsWritten(t *testing.T) {
	needRoot(t)
	nft, err := exec.LookPath("nft")
	if err != nil {
		missing(t, "the nft command (package nftables)")
	}
	for name, tables := range exampleTables() {
		host := newSpace(t)
		var out []byte
		host.do(func(nl *netlink.Handle) error {
			tap, err := attachTap(false) // the ingress chains need their devices
			if err != nil {
				return err
			}
			defer tap.Close()
			attrs := netlink.NewLinkAttrs()
			attrs.Name = uplinkName
			pair := netlink.NewVeth(attrs)
			pair.PeerName = "peer0"
			if err := nl.LinkAdd(pair); err != nil {
				return err
			}
			if err := install(tables); err != nil {
				return err
			}
			if err := replace(tables); err != nil {
				return err
			}
			if out, err = exec.Command(nft, "list", "ruleset").CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			if err := uninstall(tables); err != nil {
				return err
			}
			left, err := exec.Command(nft, "list", "ruleset").CombinedOutput()
			if err != nil || len(left) > 0 {
				return fmt.Errorf("left after uninstall: %s (%w)", left, err)
			}
			return nil
		})
		if got, want := normal(string(out)), normal(text(tables)); got != want {
			t.Errorf("%s: the kernel has\n%s\nwanted\n%s", name, got, want)
		}
	}
}

// normal evens out how nft breaks lines.
func normal(s string) string { return strings.Join(strings.Fields(s), " ") }
