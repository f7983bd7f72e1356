package main

import (
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// resolvConfs are the files with the machine's nameservers. The second is that of
// systemd-resolved, which lists only itself, on loopback, in the first.
var resolvConfs = []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"}

// publicNameservers, Quad9 and Cloudflare, are used if the machine has none that a
// sandbox can reach.
var publicNameservers = []netip.Addr{netip.AddrFrom4([4]byte{9, 9, 9, 9}), netip.AddrFrom4([4]byte{1, 1, 1, 1})}

// nameservers returns those for sandboxes: the chosen ones, which are valid,
// else the machine's, else public ones.
func nameservers(chosen []string, log *slog.Logger) []netip.Addr {
	var out []netip.Addr
	for _, c := range chosen {
		out = append(out, netip.MustParseAddr(c))
	}
	for _, path := range resolvConfs {
		if len(out) > 0 {
			return out
		}
		raw, err := os.ReadFile(path)
		if err == nil {
			out = reachable(string(raw))
		}
	}
	if len(out) > 0 {
		return out
	}
	log.Warn("this machine names no nameserver that sandboxes can reach; they get public ones", "nameservers", publicNameservers)
	return slices.Clone(publicNameservers)
}

// reachable returns the nameservers of a resolv.conf(5) that can be reached
// from a network namespace without IPv6.
func reachable(conf string) []netip.Addr {
	var out []netip.Addr
	for line := range strings.Lines(conf) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil && a.Is4() && !a.IsLoopback() {
			out = append(out, a)
		}
	}
	return out
}
