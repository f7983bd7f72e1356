package host_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// prober is a program in a guest that tries to reach each address of its arguments,
// by TCP and by UDP, and prints those that answered. Then it sends, as root, packets
// with the source address of another sandbox and of protocols that may not leave.
const prober = `
import socket, struct, sys, threading
def reach(where, kind):
    host, port = where.rsplit(":", 1)
    s = socket.socket(socket.AF_INET, kind)
    s.settimeout(3)
    try:
        s.connect((host, int(port)))
        if kind == socket.SOCK_DGRAM:
            s.send(b"x")
            s.recv(1)
        print("reached", where, kind)
    except OSError:
        pass
tries = [threading.Thread(target=reach, args=(w, k)) for w in sys.argv[1:] for k in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
for t in tries: t.start()
for t in tries: t.join()
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
for proto in (17, 47, 50, 132):
    packet = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 1, 0, 64, proto, 0, socket.inet_aton("203.0.113.99"), socket.inet_aton(sys.argv[1].split(":")[0]))
    try:
        raw.sendto(packet + struct.pack("!HHHH", 9, 9, 8, 0), (sys.argv[1].split(":")[0], 0))
    except OSError:
        pass
print("done")
`

// listener is a program in a guest that accepts connections to TCP port 8080 of every
// address, and closes the pipe /tmp/ready when it listens. It imports one module:
// those of http.server take an emulated guest 7 s of CPU time, and the 30 s of a
// command on a busy machine.
const listener = `
import socket
s = socket.create_server(("", 8080))
open("/tmp/ready", "w").close()
while True:
    s.accept()[0].close()
`

// TestGuestReachesNoNeighbour: programs in a guest, as root and with raw sockets,
// reach neither the host, nor another sandbox, nor the addresses of networks beside
// the host. The host reaches the guest.
func TestGuestReachesNoNeighbour(t *testing.T) { onEachRuntime(t, guestReachesNoNeighbour) }

func guestReachesNoNeighbour(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wnbr")
	one, other := b.create(), b.create()
	b.sh(other, "mkfifo /tmp/ready; setsid python3 -c '"+listener+"' >/dev/null 2>&1 & cat /tmp/ready")
	there := net.JoinHostPort(b.state(other.ID).HostIP, "8080")
	conn, err := net.DialTimeout("tcp", there, hosttest.Patience(t, time.Minute))
	if err != nil {
		t.Fatalf("the host reaches the sandbox at %s: %v", there, err)
	}
	check(t, conn.Close())

	host, err := net.Listen("tcp", "0.0.0.0:0")
	check(t, err)
	t.Cleanup(func() { check(t, host.Close()) })
	udp, err := net.ListenPacket("udp", host.Addr().String())
	check(t, err)
	t.Cleanup(func() { check(t, udp.Close()) })
	heard := make(chan string, 16)
	go func() {
		for {
			_, from, err := udp.ReadFrom(make([]byte, 64))
			if err != nil {
				return
			}
			_, _ = udp.WriteTo([]byte("y"), from)
			select {
			case heard <- from.String():
			default:
			}
		}
	}()
	targets := append(hostAddresses(t, host.Addr().(*net.TCPAddr).Port),
		there, net.JoinHostPort(b.state(one.ID).HostIP, "49983"),
		"169.254.169.254:80", "169.254.0.22:22", "169.254.0.22:80", "10.0.0.1:80", "172.16.0.1:80", "192.168.0.1:80", "100.64.0.1:80", "198.18.0.1:80")
	out := b.sh(one, "cat >/tmp/p.py <<'EOF'\n"+prober+"EOF\npython3 /tmp/p.py "+strings.Join(targets, " "))
	if out != "done" {
		t.Errorf("the sandbox reached: %q, want nothing of %v", out, targets)
	}
	select {
	case from := <-heard:
		t.Errorf("the host received a datagram from %s", from)
	default:
	}
}

// hostAddresses returns the host's own IPv4 addresses with a port.
func hostAddresses(t *testing.T, port int) (found []string) {
	t.Helper()
	all, err := net.InterfaceAddrs()
	check(t, err)
	for _, a := range all {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() {
			found = append(found, fmt.Sprintf("%s:%d", ip.IP, port))
		}
	}
	return found
}
