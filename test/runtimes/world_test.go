package runtimes

import (
	"io"
	"net"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// worldAddress is an echo in the world outside, of a range for documentation
// (RFC 5737).
const worldAddress = "198.51.100.7:7777"

// newWorld connects this process's network namespace with another, which has an
// echo, by a default route.
func newWorld(t *testing.T) {
	t.Helper()
	made, served := make(chan error), make(chan error)
	var ns *os.File
	next := make(chan struct{})
	go func() { // on a thread that ends with the goroutine
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			ns, err = os.Open("/proc/thread-self/ns/net")
		}
		made <- err
		<-next
		served <- serveWorld()
	}()
	check(t, <-made)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "wan0"
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerNamespace = "lan0", netlink.NsFd(int(ns.Fd()))
	check(t, netlink.LinkAdd(pair))
	check(t, up("lo", ""))
	check(t, up("wan0", "203.0.113.2/24"))
	check(t, netlink.RouteAdd(&netlink.Route{Gw: net.IPv4(203, 0, 113, 1)}))
	close(next)
	check(t, <-served)
}

// up sets an interface up, with an address unless prefix is empty.
func up(name, prefix string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if prefix != "" {
		addr, err := netlink.ParseAddr(prefix)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(l, addr); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(l)
}

// serveWorld gives this thread's namespace its addresses, and starts the echo.
func serveWorld() error {
	for _, l := range [][2]string{{"lo", "198.51.100.7/32"}, {"lan0", "203.0.113.1/24"}} {
		if err := up(l[0], l[1]); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp4", worldAddress)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c) }()
		}
	}()
	return nil
}
