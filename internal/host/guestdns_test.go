package host_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/linux/thread"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestGuestLooksUpNames: programs in a guest look up names at the configured nameserver,
// although it lies in a range that sandboxes cannot reach. They can ask no other one
// beside it.
func TestGuestLooksUpNames(t *testing.T) {
	t.Parallel()
	onEachRuntime(t, guestLooksUpNames)
}

func guestLooksUpNames(t *testing.T, r sandbox.Runtime) {
	configured, other := nameservers(t)
	b := unopenedBench(t, r, "wdns")
	b.nameserver = configured.String()
	b.configure = func(cfg *host.Config) { cfg.Nameservers = []string{configured.String()} }
	b.open()
	t.Cleanup(b.end)
	ref := b.create()
	const look = `python3 -c '
import socket
try: print(socket.gethostbyname("box.example.com"))
except OSError as e: print("failed")'`
	if got := b.sh(ref, look); got != answered.String() {
		t.Errorf("a name is looked up as %q, want %s; resolv.conf: %q", got, answered, b.sh(ref, "cat /etc/resolv.conf"))
	}
	got := b.sh(ref, fmt.Sprintf("printf 'nameserver %s\noptions timeout:2 attempts:1\n' >/etc/resolv.conf; %s", other, look))
	if got != "failed" {
		t.Errorf("a nameserver that is not configured: got %q, want that the sandbox cannot ask it", got)
	}
	cutOff, spec := newRef(), smallSpec
	spec.Egress = sandbox.DenyAll()
	_, err := b.Create(t.Context(), cutOff, spec)
	check(t, err)
	if got := b.sh(cutOff, look); got != "failed" {
		t.Errorf("a sandbox that is cut off looks up a name as %q, want a failure", got)
	}
}

// answered is the address of every name, according to the nameservers of the test.
var answered = netip.MustParseAddr("192.0.2.77")

// nameservers starts a nameserver with two addresses in a network beside the host. The
// range of the addresses is 198.18.0.0/15, which sandboxes cannot reach (RFC 2544).
func nameservers(t *testing.T) (one, two netip.Addr) {
	t.Helper()
	hosttest.Root(t)
	base := netip.AddrFrom4([4]byte{198, 19, byte(rand.Uint32()), byte(rand.Uint32()) &^ 7})
	outer, one, two := base.Next(), base.Next().Next(), base.Next().Next().Next()
	name := fmt.Sprintf("%s%04x", hosttest.Name("wdn"), rand.Uint32()&0xffff)
	ip := func(args string) {
		t.Helper()
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	ip("netns add " + name)
	t.Cleanup(func() { ip("netns del " + name) })
	ip(fmt.Sprintf("link add %s type veth peer name eth0 netns %s", name, name))
	ip(fmt.Sprintf("addr add %s/29 dev %s", outer, name))
	ip(fmt.Sprintf("link set %s up", name))
	for _, a := range []netip.Addr{one, two} {
		ip(fmt.Sprintf("-n %s addr add %s/29 dev eth0", name, a))
	}
	ip(fmt.Sprintf("-n %s link set eth0 up", name))
	for _, a := range []netip.Addr{one, two} {
		conn := listenIn(t, name, netip.AddrPortFrom(a, 53))
		go answer(conn)
		t.Cleanup(func() { check(t, conn.Close()) })
	}
	return one, two
}

// listenIn opens a socket for datagrams in the network namespace name.
func listenIn(t *testing.T, name string, at netip.AddrPort) (conn *net.UDPConn) {
	t.Helper()
	space, err := os.Open(filepath.Join("/run/netns", name))
	check(t, err)
	defer space.Close()
	check(t, thread.Own(func() (err error) {
		if err = unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); err == nil {
			conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		}
		return err
	}))
	return conn
}

// answer answers each question for an IPv4 address with answered, until conn is closed.
// Other questions have no answers. See RFC 1035, section 4.
func answer(conn *net.UDPConn) {
	buffer := make([]byte, 512)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		const header = 12
		end := header
		for end < n && buffer[end] != 0 {
			end += 1 + int(buffer[end]) // a label
		}
		if end += 1 + 4; end > n { // its type and class
			continue
		}
		address := buffer[end-4] == 0 && buffer[end-3] == 1
		reply := append([]byte{buffer[0], buffer[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, buffer[header:end]...)
		if address {
			reply[7] = 1
			reply = append(reply, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4)
			reply = append(reply, answered.AsSlice()...)
		}
		_, _ = conn.WriteToUDPAddrPort(reply, from)
	}
}
