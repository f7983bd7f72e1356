package channel

import (
	"context"
	"errors"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/listener"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
	"github.com/wrenn-dev/wrenn/internal/tunnel"
)

const (
	// maxDials is the number of connections to programs that may be open at once. Each
	// has two buffers of dialBuffer bytes. While much passes it borrows one of
	// maxLargeBuffers of largeBuffer bytes.
	maxDials        = 256
	dialBuffer      = 16 << 10
	largeBuffer     = 128 << 10
	maxLargeBuffers = 16
	// dialTimeout bounds connecting to a program of the same guest.
	dialTimeout = 10 * time.Second
)

// loopbacks are the addresses on which a program may listen that the host cannot reach.
var loopbacks = []string{"127.0.0.1", "::1"}

// dial connects the peer with a program that listens on a loopback address, and copies
// bytes until both have ended. The connection carries no call afterwards.
func (c *connection) dial(ctx context.Context, message []byte) error {
	m, err := guestwire.ParseDialCall(message)
	if err != nil || m.GetPort() == 0 || m.GetPort() > 65535 || m.GetPort() == guestwire.Port || c.reader.Pending() {
		return errMessage(err)
	}
	peer, ok := listener.Unwrap(c.conn).(tunnel.Stream)
	if !ok {
		return errHangUp
	}
	select {
	case c.server.dials <- struct{}{}:
		defer func() { <-c.server.dials }()
	default:
		return fault.New(fault.Quota, "too_many_connections",
			"the sandbox has %d open connections to programs on its loopback address; close some, or let the program listen on 0.0.0.0", maxDials)
	}
	program, err := dialLoopback(ctx, int(m.GetPort()))
	if err != nil {
		return err
	}
	if err := c.send(guestwire.Answer, nil); err != nil {
		_ = program.Close()
		return err
	}
	return errors.Join(errHangUp, tunnel.CarryBuffered(ctx, peer, program, func() {}, c.server.buffers))
}

// dialLoopback connects to the first loopback address on which a program listens.
func dialLoopback(ctx context.Context, port int) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	dialer := net.Dialer{KeepAlive: -1} // both ends are in this guest
	var refused error
	for _, address := range loopbacks {
		conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(port)))
		if err == nil {
			return conn.(*net.TCPConn), nil
		}
		if !errors.Is(err, syscall.ECONNREFUSED) && refused != nil {
			break // a guest without IPv6
		}
		refused = err
	}
	return nil, fault.Wrap(refused, fault.NotFound, "port_refused", "nothing listens on port %d of the sandbox", port)
}
