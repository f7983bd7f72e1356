package network

import (
	"encoding/binary"
	"errors"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// target is an address of the outside world, and marker the port of the
// datagram that ends a test's transmission to it.
const (
	target = "198.51.100.7"
	marker = 9
)

// limited is a sandbox with limits and a world outside.
func limited(t *testing.T, kind guestKind, l Limits) (host, guest, world *space, s *Slot) {
	t.Helper()
	needRoot(t)
	host = newSpace(t)
	world = outside(host, target)
	s = kind.acquire(t, host.open(Config{Name: uniqueName(), Limits: l}), "one")
	return host, kind.plug(t, s), world, s
}

// socket makes a socket in the space, on which reading gives up after a while.
func (s *space) socket(domain, kind, proto int) int {
	s.t.Helper()
	fd := -1
	s.do(func(*netlink.Handle) (err error) {
		if fd, err = unix.Socket(domain, kind|unix.SOCK_CLOEXEC, proto); err != nil {
			return err
		}
		// Room for all that a test sends, so that only a limit loses any of it.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20); err != nil {
			return err
		}
		return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20})
	})
	s.t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// ipPackets opens a tap on all IPv4 packets that arrive in the space.
func (s *space) ipPackets() (fd int) {
	return s.socket(unix.AF_PACKET, unix.SOCK_DGRAM, int(bits16(unix.ETH_P_IP)))
}

// bits16 puts a number into network byte order.
func bits16(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// untilMarker returns the IPv4 packets that arrive before the marker.
func untilMarker(t *testing.T, fd int) (packets [][]byte) {
	t.Helper()
	for {
		buf := make([]byte, 2048)
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			t.Fatalf("the marker did not arrive: %v", err)
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); !ok || ll.Pkttype == unix.PACKET_OUTGOING || n < 28 {
			continue
		}
		p := buf[:n]
		if p[9] == unix.IPPROTO_UDP && binary.BigEndian.Uint16(p[22:]) == marker {
			return packets
		}
		packets = append(packets, p)
	}
}

func sockaddr(addr string, port int) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Addr: netip.MustParseAddr(addr).As4(), Port: port}
}

// send sends one datagram from the space.
func (s *space) send(fd int, addr string, port, size int) {
	s.t.Helper()
	if err := unix.Sendto(fd, make([]byte, size), 0, sockaddr(addr, port)); err != nil {
		s.t.Fatalf("send to %s:%d: %v", addr, port, err)
	}
}

func (s *space) udp() int { return s.socket(unix.AF_INET, unix.SOCK_DGRAM, 0) }

// TestOnlyKnownProtocolsLeave sends one packet of each IP protocol.
func TestOnlyKnownProtocolsLeave(t *testing.T) { withEachGuest(t, onlyKnownProtocolsLeave) }

func onlyKnownProtocolsLeave(t *testing.T, kind guestKind) {
	_, guest, world, _ := limited(t, kind, Limits{})
	seen := world.ipPackets()
	udp, ping := guest.udp(), guest.socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	raw := guest.socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
	for proto := range 256 {
		if proto == unix.IPPROTO_TCP || proto == unix.IPPROTO_UDP || proto == unix.IPPROTO_ICMP {
			continue
		}
		packet := make([]byte, 60)
		packet[0], packet[8], packet[9] = 0x45, 64, byte(proto)
		src, dst := GuestIP.As4(), netip.MustParseAddr(target).As4()
		copy(packet[12:], src[:])
		copy(packet[16:], dst[:])
		if err := unix.Sendto(raw, packet, 0, sockaddr(target, 0)); err != nil {
			t.Fatalf("protocol %d: %v", proto, err)
		}
	}
	echo := []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0} // RFC 792, with its checksum
	if err := unix.Sendto(ping, echo, 0, sockaddr(target, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := guest.ask(target+":81", patient); !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatalf("TCP to a closed port: got %v, want a refusal", err)
	}
	guest.send(udp, target, 53, 8)
	guest.send(udp, target, marker, 1)
	got := map[byte]bool{}
	for _, p := range untilMarker(t, seen) {
		got[p[9]] = true
	}
	want := []byte{unix.IPPROTO_ICMP, unix.IPPROTO_TCP, unix.IPPROTO_UDP}
	if found := slices.Sorted(maps.Keys(got)); !slices.Equal(found, want) {
		t.Errorf("these protocols left the sandbox: %v, want %v", found, want)
	}
}

// TestConnectionsAreLimited: the host's table has no more entries of a sandbox
// than its limit, and a connection below the limit is not harmed.
func TestConnectionsAreLimited(t *testing.T) { withEachGuest(t, connectionsAreLimited) }

func connectionsAreLimited(t *testing.T, kind guestKind) {
	const limit = 20
	host, guest, world, _ := limited(t, kind, Limits{Connections: limit})
	world.listen(":80")
	if _, err := guest.ask(target+":80", patient); err != nil {
		t.Fatalf("below the limit: %v", err)
	}
	udp := guest.udp()
	guest.send(udp, target, 1000, 1)
	for port := range 10 * limit {
		guest.send(guest.udp(), target, 2000+port, 1)
	}
	seen := world.ipPackets()
	for range 5 {
		guest.send(udp, target, 1000, 1) // a connection that is tracked continues
	}
	guest.send(udp, target, 1000, 2)
	for n := 0; n < 6; {
		buf := make([]byte, 2048)
		size, _, err := unix.Recvfrom(seen, buf, 0)
		if err != nil {
			t.Fatalf("a connection from before the limit was reached got %d of 6 datagrams through: %v", n, err)
		}
		if size >= 29 && buf[9] == unix.IPPROTO_UDP && binary.BigEndian.Uint16(buf[22:]) == 1000 {
			n++
		}
	}
	if n := host.tracked(); n < limit/2 || n > limit+2 {
		t.Errorf("the host tracks %d connections of a sandbox that tried %d, want about %d", n, 10*limit, limit)
	}
}

// tracked returns how many connections the space tracks.
func (s *space) tracked() (n int) {
	s.t.Helper()
	s.do(func(*netlink.Handle) error {
		text, err := os.ReadFile("/proc/thread-self/net/stat/nf_conntrack")
		if err != nil {
			return err
		}
		// One line a CPU; the first column is the number of entries, in hex.
		line := strings.Fields(strings.Split(string(text), "\n")[1])
		v, err := strconv.ParseInt(line[0], 16, 64)
		n = int(v)
		return err
	})
	return n
}

// TestRatesAreLimited sends much more than is allowed, each way.
func TestRatesAreLimited(t *testing.T) { withEachGuest(t, ratesAreLimited) }

func ratesAreLimited(t *testing.T, kind guestKind) {
	const flood = 3000
	for name, c := range map[string]struct {
		limits Limits
		size   int
		// most is how many datagrams may pass in a time.
		most func(took time.Duration) int
	}{
		"packets": {Limits{Packets: 400}, 10, func(took time.Duration) int { return 100 + int(took.Seconds()*400) }},
		"bytes": {Limits{Bytes: 100_000}, 1000, func(took time.Duration) int {
			return (minByteBurst + int(took.Seconds()*100_000)) / 1000
		}},
	} {
		t.Run(name, func(t *testing.T) {
			_, guest, world, _ := limited(t, kind, c.limits)
			inside, there := guest.udp(), world.udp()
			if err := unix.Bind(there, sockaddr(target, 7)); err != nil {
				t.Fatal(err)
			}
			guest.send(inside, target, 7, 1)
			_, from, err := unix.Recvfrom(there, make([]byte, 10), 0)
			if err != nil {
				t.Fatalf("the first datagram: %v", err)
			}
			back := from.(*unix.SockaddrInet4)
			for way, pair := range map[string]struct {
				from, to int
				send     func()
			}{
				"out": {inside, there, func() { guest.send(inside, target, 7, c.size) }},
				"in":  {there, inside, func() { world.send(there, net.IP(back.Addr[:]).String(), back.Port, c.size) }},
			} {
				began := time.Now()
				for range flood {
					pair.send()
				}
				got := drainSocket(t, pair.to)
				if most := c.most(time.Since(began)) + 10; got > most || got == 0 {
					t.Errorf("%s: %d of %d datagrams passed, want from 1 to %d", way, got, flood, most)
				}
			}
		})
	}
}

// drainSocket counts datagrams until none has arrived for a second.
func drainSocket(t *testing.T, fd int) (n int) {
	t.Helper()
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		t.Fatal(err)
	}
	for {
		if _, _, err := unix.Recvfrom(fd, make([]byte, 2048), 0); err != nil {
			return n
		}
		n++
	}
}

func TestLimits(t *testing.T) {
	l, err := Limits{Packets: -1, Bytes: 7}.withDefaults()
	if want := (Limits{DefaultLimits.Connections, -1, 7}); err != nil || l != want {
		t.Errorf("defaults: got %+v %v, want %+v", l, err, want)
	}
	none := Limits{-1, -1, -1}
	if len(none.rates(nil, nil)) > 0 || len(none.connections()) > 0 {
		t.Error("no limits make rules")
	}
	for _, l := range []Limits{{Bytes: maxRate + 1}, {Packets: maxRate + 1}, {Connections: maxRate}} {
		if _, err := l.withDefaults(); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: got %v, want %v", l, err, fault.Invalid)
		}
	}
	for n, want := range map[int64]string{1: "1 bytes", 1024: "1 kbytes", 3 << 20: "3 mbytes", 1 << 31: "2048 mbytes"} {
		if got := nftBytes(n); got != want {
			t.Errorf("%d bytes are written %q, want %q", n, got, want)
		}
	}
}
