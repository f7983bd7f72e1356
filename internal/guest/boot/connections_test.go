package boot

import (
	"encoding/binary"
	"errors"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// message is one netlink message.
func message(kind uint16, data []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(data)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, make([]byte, 10)...)
	return append(b, data...)
}

// described is one connection in the kernel's answer.
func described(family byte, local, remote net.IP, port uint16) []byte {
	b := make([]byte, diagAnswerBytes)
	b[0] = family
	id := b[diagAnswerIDAt:]
	binary.BigEndian.PutUint16(id, port)
	copy(id[4:], local)
	copy(id[20:], remote)
	return b
}

func TestDiagnosisIsRead(t *testing.T) {
	v4 := func(s string) net.IP { return net.ParseIP(s).To4() }
	tests := []struct {
		name          string
		family        byte
		local, remote net.IP
		inside        bool
	}{
		{"another machine", unix.AF_INET, v4("169.254.0.21"), v4("192.0.2.1"), false},
		{"loopback", unix.AF_INET, v4("127.0.0.1"), v4("127.0.0.1"), true},
		{"own address", unix.AF_INET, v4("169.254.0.21"), v4("169.254.0.21"), true},
		{"mapped", unix.AF_INET6, net.ParseIP("::ffff:127.0.0.1"), net.ParseIP("::ffff:127.0.0.1"), true},
		{"mapped, elsewhere", unix.AF_INET6, net.ParseIP("::ffff:169.254.0.21"), net.ParseIP("::ffff:192.0.2.1"), false},
		{"loopback of IPv6", unix.AF_INET6, net.IPv6loopback, net.IPv6loopback, true},
	}
	for _, tt := range tests {
		var found []connection
		done, err := diagAnswers(append(message(sockDiagByFamily, described(tt.family, tt.local, tt.remote, 4711)), message(unix.NLMSG_DONE, make([]byte, 4))...),
			func(c connection) { found = append(found, c) })
		if !done || err != nil || len(found) != 1 || found[0].localPort() != 4711 || found[0].inside() != tt.inside {
			t.Errorf("%s: %v, %v, %v", tt.name, found, done, err)
		}
	}
}

func TestDiagnosisFails(t *testing.T) {
	code := binary.NativeEndian.AppendUint32(nil, uint32(0xffffffff-uint32(unix.ENOENT)+1))
	if done, err := diagAnswers(message(unix.NLMSG_ERROR, append(code, make([]byte, 16)...)), nil); !done || !errors.Is(err, unix.ENOENT) {
		t.Errorf("an error: %v, %v", done, err)
	}
	if done, err := diagAnswers(message(unix.NLMSG_ERROR, make([]byte, 20)), nil); !done || err != nil {
		t.Errorf("an acknowledgement: %v, %v", done, err)
	}
	if done, err := diagAnswers(message(unix.NLMSG_ERROR, nil), nil); !done || !errors.Is(err, unix.EBADMSG) {
		t.Errorf("an error cut short: %v, %v", done, err)
	}
	if done, err := diagAnswers(message(sockDiagByFamily, make([]byte, 12)), nil); done || err != nil {
		t.Errorf("an answer cut short: %v, %v", done, err)
	}
}

// TestConnectionsAreListed asks the kernel of the test machine, where it has
// the module.
func TestConnectionsAreListed(t *testing.T) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		t.Skipf("no socket diagnosis here: %v", err)
	}
	defer unix.Close(fd)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	found, err := connectionsOf(fd, unix.AF_INET)
	if errors.Is(err, unix.ENOENT) {
		t.Skip("the kernel has no tcp_diag")
	}
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(client.LocalAddr().(*net.TCPAddr).Port)
	for _, c := range found {
		if c.localPort() == port {
			if !c.inside() {
				t.Error("a connection of the loopback counts as another machine's")
			}
			return
		}
	}
	t.Errorf("the connection from port %d is not among %d", port, len(found))
}
