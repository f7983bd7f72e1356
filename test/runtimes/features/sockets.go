package features

import (
	"encoding/binary"
	"errors"
	"net"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// sockets are the kinds of sockets beside TCP and UDP over IPv4.
func sockets() []Feature {
	return []Feature{
		{"IPv6 on the loopback", "a TCP connection to ::1", func() error { return echo("tcp6", "[::1]:0") }},
		{"ping socket", "an answer of 127.0.0.1 without raw sockets, as root", func() error { return ping(unix.SOCK_DGRAM) }},
		{"raw socket", "an answer of 127.0.0.1 to ICMP", func() error { return ping(unix.SOCK_RAW) }},
		{"packet socket, receiving", "see a packet on the loopback", packets},
		{"Unix sockets with descriptors", "pass an open file", passFile},
		{"several listeners on one port", "SO_REUSEPORT", reusePort},
		{"transparent proxies", "IP_TRANSPARENT", func() error {
			return withSocket(unix.AF_INET, unix.SOCK_STREAM, 0, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1) })
		}},
		{"bound to an interface", "SO_BINDTODEVICE", func() error {
			return withSocket(unix.AF_INET, unix.SOCK_STREAM, 0, func(fd int) error { return unix.BindToDevice(fd, "lo") })
		}},
		{"MPTCP", "open a socket", func() error { return withSocket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP, nil) }},
		{"SCTP", "open a socket", func() error { return withSocket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP, nil) }},
		{"AF_VSOCK", "open a socket", func() error { return withSocket(unix.AF_VSOCK, unix.SOCK_STREAM, 0, nil) }},
		{"AF_ALG", "bind a socket to SHA-256", kernelHash},
		{"generic netlink", "list its families", genericNetlink},
		{"socket diagnosis", "list TCP sockets, as ss(8) does", socketDiag},
	}
}

// withSocket makes a socket and calls do, which may be nil.
func withSocket(family, kind, protocol int, do func(fd int) error) error {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if do == nil {
		return nil
	}
	return do(fd)
}

// ping sends an echo request to the loopback and waits for the reply.
func ping(kind int) error {
	return withSocket(unix.AF_INET, kind, unix.IPPROTO_ICMP, func(fd int) error {
		patience := unix.NsecToTimeval(int64(5 * time.Second))
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
			return err
		}
		// Type 8, code 0, checksum, identifier 0, sequence number 1.
		request := []byte{8, 0, 0, 0, 0, 0, 0, 1}
		binary.BigEndian.PutUint16(request[2:], ^uint16(8<<8+1))
		if err := unix.Sendto(fd, request, 0, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			return err
		}
		packet := make([]byte, 256)
		for {
			n, _, err := unix.Recvfrom(fd, packet, 0)
			if err != nil {
				return err
			}
			reply := packet[:n]
			if kind == unix.SOCK_RAW {
				reply = reply[20:]
			}
			if reply[0] == 0 { // an echo reply; a raw socket sees the request too
				return nil
			}
		}
	})
}

func packets() error {
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8 // in network order
	return withSocket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK, all, func(fd int) error {
		packet := make([]byte, 2048)
		return soon("no packet arrived", func() bool {
			c, err := net.Dial("udp4", "127.0.0.1:9")
			if err != nil {
				return false
			}
			_, _ = c.Write([]byte("hello"))
			_ = c.Close()
			n, _, err := unix.Recvfrom(fd, packet, 0)
			return err == nil && n > 0
		})
	})
}

func passFile() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(pair[0], []byte("x"), unix.UnixRights(0), nil, 0); err != nil {
		return err
	}
	data, control := make([]byte, 8), make([]byte, 64)
	_, n, _, _, err := unix.Recvmsg(pair[1], data, control, 0)
	if err != nil {
		return err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	return errors.Join(err, want(len(messages) == 1, "no descriptor arrived"))
}

func reusePort() error {
	return withSocket(unix.AF_INET, unix.SOCK_STREAM, 0, func(a int) error {
		return withSocket(unix.AF_INET, unix.SOCK_STREAM, 0, func(b int) error {
			at := &unix.SockaddrInet4{Port: 8642, Addr: [4]byte{127, 0, 0, 1}}
			var errs []error
			for _, fd := range []int{a, b} {
				errs = append(errs, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1), unix.Bind(fd, at), unix.Listen(fd, 1))
			}
			return errors.Join(errs...)
		})
	})
}

func kernelHash() error {
	return withSocket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0, func(fd int) error {
		return unix.Bind(fd, &unix.SockaddrALG{Type: "hash", Name: "sha256"})
	})
}

func dialNetlink(family int, m netlink.Message) error {
	c, err := netlink.Dial(family, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Execute(m)
	return err
}

func genericNetlink() error {
	const controller, getFamily = 16, 3 // GENL_ID_CTRL, CTRL_CMD_GETFAMILY
	return dialNetlink(unix.NETLINK_GENERIC, netlink.Message{
		Header: netlink.Header{Type: controller, Flags: netlink.Request | netlink.Dump}, Data: []byte{getFamily, 1, 0, 0},
	})
}

func socketDiag() error {
	const byFamily = 20 // SOCK_DIAG_BY_FAMILY
	request := make([]byte, 56)
	request[0], request[1] = unix.AF_INET, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(request[4:], ^uint32(0)) // every state
	return dialNetlink(unix.NETLINK_INET_DIAG, netlink.Message{
		Header: netlink.Header{Type: byFamily, Flags: netlink.Request | netlink.Dump}, Data: request,
	})
}
