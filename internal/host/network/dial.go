package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Dial connects to a TCP port of the guest. Only the socket is made inside the
// namespace, which takes some tens of microseconds; a socket stays in the
// namespace of its making, so no route or rule on the host is involved. ctx
// bounds the connecting, not the connection.
//
// It fails with fault.HostFailed, reason port_refused, if nothing listens on
// the port, with fault.Timeout or fault.Canceled when ctx ends, and with
// fault.WrongState after Release. A connection keeps the namespace alive until
// it is closed.
func (s *Slot) Dial(ctx context.Context, port uint16) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, fault.As(err)
	}
	fd := -1
	err := inside(s.pool.host, s.ns, func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if errors.Is(err, os.ErrClosed) {
		return nil, errReleased()
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.HostFailed, "socket_failed", "no socket could be made in the sandbox's network")
	}
	sock := os.NewFile(uintptr(fd), fmt.Sprintf("%s:%d", s.Netns, port))
	defer sock.Close() // net.FileConn works on a copy
	if err := connect(ctx, sock, &unix.SockaddrInet4{Addr: GuestIP.As4(), Port: int(port)}); err != nil {
		return nil, dialFault(ctx, port, err)
	}
	conn, err := net.FileConn(sock)
	if err != nil {
		return nil, fault.Wrap(err, fault.HostFailed, "socket_failed", "no socket could be made in the sandbox's network")
	}
	// Keep-alive packets wake an idle guest every 15 s, and tell nothing: a guest that does
	// not answer is found by probes, and one that has ended takes its namespace with it.
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetKeepAlive(false)
	}
	return conn, nil
}

// connect waits with the runtime's poller, so that no thread blocks.
func connect(ctx context.Context, sock *os.File, to unix.Sockaddr) error {
	stop := context.AfterFunc(ctx, func() { _ = sock.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := sock.SyscallConn()
	if err != nil {
		return err
	}
	started := false
	var result error
	err = raw.Write(func(fd uintptr) bool {
		if !started {
			started = true
			result = unix.Connect(int(fd), to)
			return !errors.Is(result, unix.EINPROGRESS)
		}
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			result = err
		case code != 0:
			result = unix.Errno(code)
		default:
			// Writable with no error and no peer is a spurious wake-up.
			if _, err := unix.Getpeername(int(fd)); errors.Is(err, unix.ENOTCONN) {
				return false
			}
			result = nil
		}
		return true
	})
	return errors.Join(err, result)
}

func dialFault(ctx context.Context, port uint16, err error) error {
	switch {
	case ctx.Err() != nil:
		return fault.As(ctx.Err())
	case errors.Is(err, unix.ECONNREFUSED):
		return fault.Wrap(err, fault.HostFailed, "port_refused", "nothing listens on port %d of the sandbox", port)
	default:
		return fault.Wrap(err, fault.HostFailed, "guest_unreachable", "port %d of the sandbox cannot be reached", port)
	}
}
