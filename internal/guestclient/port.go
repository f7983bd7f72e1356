package guestclient

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
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

// DialPort connects to a program that listens on a TCP port of the guest, on any address
// or on a loopback address alone: the guest's agent connects to the latter. ctx bounds
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
	if errors.Is(err, syscall.ECONNREFUSED) {
		conn, err = c.dialLoopback(ctx, port, err)
	}
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

// dialLoopback has the guest's agent connect to a program that listens on a loopback
// address. refused is the error of connecting without its help, and is returned for an
// agent of a version that cannot do this.
func (c *Client) dialLoopback(ctx context.Context, port uint16, refused error) (net.Conn, error) {
	made, err := c.dial(ctx, guestwire.Port)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = made.SetDeadline(time.Unix(1, 0)) })
	t, payload, err := c.askForLoopback(made, port)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	switch {
	case err == nil && t == guestwire.Answer && len(payload) == 0:
		return made, nil
	case err == nil && t == guestwire.Failure:
		m := &guestv1.Failure{}
		if err = errDisorder; proto.Unmarshal(payload, m) == nil {
			err = failureFault(m)
		}
	case errors.Is(err, io.EOF):
		err = refused
	case err == nil:
		err = errDisorder
	}
	_ = made.Close()
	return nil, err
}

// askForLoopback sends the call and returns the type and the payload of the answer. It
// reads no byte after the answer, because those are the program's.
func (c *Client) askForLoopback(on net.Conn, port uint16) (guestwire.Type, []byte, error) {
	body, err := proto.Marshal(&guestv1.DialCall{Port: uint32(port)})
	if err != nil {
		return 0, nil, err
	}
	c.mu.Lock()
	token := c.token
	c.mu.Unlock()
	frame, err := guestwire.AppendCall(nil, guestwire.Dial, token, body)
	if err != nil {
		return 0, nil, err
	}
	if _, err := on.Write(frame); err != nil {
		return 0, nil, err
	}
	var head [guestwire.HeaderBytes]byte
	if _, err := io.ReadFull(on, head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxErrorBytes {
		return 0, nil, errDisorder
	}
	payload := make([]byte, size)
	_, err = io.ReadFull(on, payload)
	return guestwire.Type(head[0]), payload, err
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
