package guestclient

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// ownedConn is a connection that Close of its client closes.
type ownedConn struct {
	net.Conn
	client *Client
}

// Close closes the connection.
func (o *ownedConn) Close() error {
	o.client.mu.Lock()
	delete(o.client.conns, o)
	o.client.mu.Unlock()
	return o.Conn.Close()
}

// connect is the transport's dialer. It takes the spare connection first.
func (c *Client) connect(ctx context.Context, _, _ string) (net.Conn, error) {
	c.mu.Lock()
	spare := c.spare
	c.spare = nil
	c.mu.Unlock()
	if spare != nil {
		return spare, nil
	}
	return c.open(ctx)
}

// open dials and takes the connection into the client's care.
func (c *Client) open(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)()
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	owned := &ownedConn{Conn: conn, client: c}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conns == nil {
		_ = conn.Close()
		return nil, errClosed
	}
	c.conns[owned] = struct{}{}
	return owned, nil
}

type lifetimeKey struct{}

// Do implements connect.HTTPClient: it adds the token, and puts the lifetime
// of a command where Connect would put the deadline of the call.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	if c.life.Err() != nil {
		return nil, errClosed
	}
	c.mu.Lock()
	token := c.token
	c.mu.Unlock()
	if token != "" {
		req.Header.Set("X-Access-Token", token)
	}
	if lifetime, ok := req.Context().Value(lifetimeKey{}).(string); ok {
		req.Header.Del("Connect-Timeout-Ms")
		if lifetime != "" {
			req.Header.Set("Connect-Timeout-Ms", lifetime)
		}
	}
	// RoundTrip, not Client.Do: a guest must not redirect the host.
	return c.transport.RoundTrip(req)
}

const (
	// retryPause lies between two attempts to reach a guest that boots.
	retryPause = 5 * time.Millisecond
	// dialPatience is short: a packet sent before the guest's network is up is
	// lost, and the kernel would send the next one only after a second.
	dialPatience = 50 * time.Millisecond
	// answerPatience is for a guest that has the connection but is slow.
	answerPatience = 3 * time.Second
)

// WaitReady returns once the guest answers that it can be configured, or when
// ctx ends. There is no event to wait for: the guest cannot call the host.
func (c *Client) WaitReady(ctx context.Context) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return fault.Wrap(ctx.Err(), fault.Timeout, "guest_not_ready", "the sandbox did not become ready in time")
		case <-c.life.Done():
			return errClosed
		case <-pause.C:
		}
		if c.probe(ctx) == nil {
			return nil
		}
		pause.Reset(retryPause)
	}
}

// probe asks for /health once over a new connection, which is kept for what
// comes next.
func (c *Client) probe(ctx context.Context) error {
	dialCtx, cancel := context.WithTimeout(ctx, dialPatience)
	conn, err := c.open(dialCtx)
	cancel()
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.spare = conn
	c.mu.Unlock()
	ctx, cancel = context.WithTimeout(ctx, answerPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, baseURL+"/health", nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxErrorBytes))
	if resp.StatusCode/100 != 2 {
		return errStatus(resp.StatusCode)
	}
	return nil
}
