package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sizes and numbers of linux/sock_diag.h and linux/inet_diag.h.
const (
	sockDiagByFamily = 20
	sockDestroy      = 21
	diagRequestBytes = 56
	diagAnswerBytes  = 72
	// diagAnswerIDAt is the offset of struct inet_diag_sockid in an answer.
	diagAnswerIDAt = 4
	diagIDBytes    = 48
	// diagBuffer is a size class of the allocator; the kernel splits its answer
	// into as many datagrams as it needs.
	diagBuffer = 16 << 10
)

// connectedStates are the states of a connection that has a peer. LISTEN and CLOSE
// have none, and no process holds a connection in TIME_WAIT.
const connectedStates = 1<<unix.BPF_TCP_ESTABLISHED | 1<<unix.BPF_TCP_SYN_SENT | 1<<unix.BPF_TCP_SYN_RECV |
	1<<unix.BPF_TCP_FIN_WAIT1 | 1<<unix.BPF_TCP_FIN_WAIT2 | 1<<unix.BPF_TCP_CLOSE_WAIT |
	1<<unix.BPF_TCP_LAST_ACK | 1<<unix.BPF_TCP_CLOSING

// CloseConnections destroys every TCP connection with another machine, except
// those to the agent's ports, and returns their number. Their processes get
// ECONNABORTED. The reset that the kernel sends does not reach the peer, because
// the host's firewall knows no such flow of this guest.
//
// Connections within the guest stay, because both ends were copied with it.
//
// It needs the kernel module tcp_diag. Concurrent calls are not allowed.
func (m *Machine) CloseConnections() (int, error) {
	if m.diag < 0 {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
		if err != nil {
			return 0, fmt.Errorf("open socket diagnosis: %w", err)
		}
		m.diag = fd
	}
	closed := 0
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		found, err := connectionsOf(m.diag, family)
		if err != nil {
			return closed, err
		}
		for _, c := range found {
			if c.inside() || slices.Contains(m.ownPorts, c.localPort()) {
				continue
			}
			err := diagRequest(m.diag, sockDestroy, unix.NLM_F_ACK, family, c.id, func(connection) {})
			// ENOENT: it has ended by itself meanwhile.
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return closed, fmt.Errorf("close a connection: %w", err)
			}
			closed++
		}
	}
	return closed, nil
}

// connection is one TCP socket, as the kernel's socket diagnosis describes it.
type connection struct {
	family byte
	id     []byte // struct inet_diag_sockid
}

func (c connection) localPort() uint16 { return binary.BigEndian.Uint16(c.id) }

// address returns the local (0) or the remote (1) address.
func (c connection) address(which int) netip.Addr {
	b := c.id[4+16*which:][:16]
	if c.family == unix.AF_INET {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrFrom16([16]byte(b)).Unmap()
}

// inside reports whether both ends are in this guest.
func (c connection) inside() bool {
	return c.address(1).IsLoopback() || c.address(0) == c.address(1)
}

func connectionsOf(fd int, family byte) (found []connection, err error) {
	err = diagRequest(fd, sockDiagByFamily, unix.NLM_F_DUMP, family, nil, func(c connection) { found = append(found, c) })
	if err != nil {
		return nil, fmt.Errorf("list connections: %w", err)
	}
	return found, nil
}

// diagRequest sends one request and calls visit with every socket in the answer.
func diagRequest(fd int, kind, flags uint16, family byte, id []byte, visit func(connection)) error {
	b := make([]byte, 0, unix.NLMSG_HDRLEN+diagRequestBytes)
	b = binary.NativeEndian.AppendUint32(b, uint32(cap(b)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|flags)
	b = append(b, make([]byte, 8)...) // sequence, port
	b = append(b, family, unix.IPPROTO_TCP, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, connectedStates)
	b = append(b, id...)
	b = b[:cap(b)]
	if err := unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, diagBuffer)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if done, err := diagAnswers(buf[:n], visit); done || err != nil {
			return err
		}
	}
}

// diagAnswers reads one datagram of the kernel and reports whether it was the
// last.
func diagAnswers(b []byte, visit func(connection)) (done bool, err error) {
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return false, err
	}
	for _, m := range messages {
		switch {
		case m.Header.Type == unix.NLMSG_DONE:
			return true, nil
		case m.Header.Type == unix.NLMSG_ERROR:
			if len(m.Data) < int(unsafe.Sizeof(int32(0))) {
				return true, unix.EBADMSG
			}
			if code := int32(binary.NativeEndian.Uint32(m.Data)); code != 0 {
				return true, unix.Errno(-code)
			}
			return true, nil
		case len(m.Data) >= diagAnswerBytes:
			visit(connection{m.Data[0], slices.Clone(m.Data[diagAnswerIDAt:][:diagIDBytes])})
		}
	}
	return false, nil
}
