package guestclient

import (
	"context"
	"errors"
	"net"
	"syscall"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// ReasonPortRefused is the reason of DialPort where no program listens on the port.
const ReasonPortRefused = "port_refused"

// Port is a connection to a program in the guest. Close of its client aborts it.
type Port struct {
	net.Conn
	client *Client
}

// DialPort connects to a program that listens on a TCP port of the guest. ctx bounds
// the connecting, not the connection. The error is HostFailed port_refused where
// nothing listens, and Forbidden for the port of the control channel, which belongs to
// the host agent.
func (c *Client) DialPort(ctx context.Context, port uint16) (*Port, error) {
	if port == guestwire.Port || port == 0 {
		return nil, fault.New(fault.Forbidden, "port_reserved", "port %d of a sandbox cannot be reached", port)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)()
	conn, err := c.dial(ctx, port)
	switch {
	case err == nil:
	case c.life.Err() != nil:
		return nil, errClosed
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, fault.Wrap(err, fault.HostFailed, ReasonPortRefused, "nothing listens on port %d of the sandbox", port)
	default:
		return nil, err
	}
	made := &Port{Conn: conn, client: c}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conns == nil {
		_ = conn.Close()
		return nil, errClosed
	}
	c.ports[made] = struct{}{}
	return made, nil
}

// CloseWrite ends the direction to the program.
func (p *Port) CloseWrite() error {
	if half, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// SetLinger is that of net.TCPConn, where the connection is one.
func (p *Port) SetLinger(sec int) error {
	if tcp, ok := p.Conn.(*net.TCPConn); ok {
		return tcp.SetLinger(sec)
	}
	return nil
}

// Close closes the connection.
func (p *Port) Close() error {
	p.client.mu.Lock()
	delete(p.client.ports, p)
	p.client.mu.Unlock()
	return p.Conn.Close()
}

// abort closes the connection such that the program sees a reset.
func (p *Port) abort() {
	_ = p.SetLinger(0)
	_ = p.Conn.Close()
}
