package hosttest

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/linux/thread"
)

// Greeter starts a server of TCP port 80 beside the host, and returns its address, which
// sandboxes can reach. It sends "x" to each client, and then all that it receives. The
// address is one of 198.51.100.0/24, which no network has (RFC 5737).
func Greeter(t testing.TB) netip.Addr {
	t.Helper()
	Root(t)
	base := netip.AddrFrom4([4]byte{198, 19, byte(rand.Uint32()), byte(rand.Uint32()) &^ 3})
	outer, gateway := base.Next(), base.Next().Next()
	server := netip.AddrFrom4([4]byte{198, 51, 100, byte(1 + rand.IntN(254))})
	name := fmt.Sprintf("%s%04x", Name("weg"), rand.Uint32()&0xffff)
	ip := func(args string) {
		t.Helper()
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	ip("netns add " + name)
	t.Cleanup(func() { ip("netns del " + name) })
	ip(fmt.Sprintf("link add %s type veth peer name eth0 netns %s", name, name))
	ip(fmt.Sprintf("addr add %s/30 dev %s", outer, name))
	ip(fmt.Sprintf("link set %s up", name))
	ip(fmt.Sprintf("-n %s addr add %s/30 dev eth0", name, gateway))
	ip(fmt.Sprintf("-n %s addr add %s/32 dev lo", name, server))
	ip(fmt.Sprintf("-n %s link set lo up", name))
	ip(fmt.Sprintf("-n %s link set eth0 up", name))
	ip(fmt.Sprintf("route add %s/32 via %s", server, gateway))
	greet(t, name, netip.AddrPortFrom(server, 80))
	return server
}

// greet serves TCP at the address in the network namespace name, until the test ends.
func greet(t testing.TB, name string, at netip.AddrPort) {
	t.Helper()
	space, err := os.Open(filepath.Join("/run/netns", name))
	if err != nil {
		t.Fatal(err)
	}
	defer space.Close()
	var l net.Listener
	if err := thread.Own(func() (err error) {
		if err = unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); err == nil {
			l, err = new(net.ListenConfig).Listen(context.Background(), "tcp4", at.String())
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = c.Write([]byte("x"))
				_, _ = io.Copy(c, c)
			}()
		}
	}()
}
