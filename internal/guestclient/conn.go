package guestclient

import (
	"context"
	"net"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// conn is a connection of the lean channel.
type conn struct {
	net.Conn
	reader    *guestwire.Reader
	out       []byte // reused for every call
	idleSince time.Time
}

const (
	// retryPause lies between two attempts to reach a guest that boots.
	retryPause = 5 * time.Millisecond
	// dialPatience is shorter than the second after which the kernel would ask
	// again, for a packet sent before the guest's network is up is lost; and
	// long enough for a guest just restored, which first has to translate what
	// it answers with, and for which each attempt given up is more to do.
	dialPatience = 200 * time.Millisecond
	// answerPatience is for a guest that has the connection but is slow.
	answerPatience = 3 * time.Second
)

// reach returns an exchange on a connection over which the guest has just
// answered. It tries until ctx ends: there is no event to wait for, since the
// guest cannot call the host.
func (c *Client) reach(ctx context.Context) (*exchange, error) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, fault.Wrap(ctx.Err(), fault.Timeout, "guest_not_ready", "the sandbox did not become ready in time")
		case <-c.life.Done():
			return nil, errClosed
		case <-pause.C:
		}
		if x, err := c.probe(ctx); err == nil {
			return x, nil
		}
		pause.Reset(retryPause)
	}
}

// probe asks for a sign of life once.
func (c *Client) probe(ctx context.Context) (*exchange, error) {
	found := c.takeIdle()
	if found == nil {
		dialCtx, cancel := context.WithTimeout(ctx, dialPatience)
		defer cancel()
		var err error
		if found, err = c.connect(dialCtx); err != nil {
			return nil, err
		}
	}
	pingCtx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	ping := c.exchange(pingCtx, found)
	if err := ping.roundTrip(guestwire.Ping, nil, nil); err != nil {
		return nil, err
	}
	if !ping.release() {
		c.discard(found)
		return nil, fault.As(pingCtx.Err())
	}
	return c.exchange(ctx, found), nil
}

// open returns an exchange on an idle connection, or on a new one.
func (c *Client) open(ctx context.Context) (*exchange, error) {
	if c.life.Err() != nil {
		return nil, errClosed
	}
	found := c.takeIdle()
	if found == nil {
		var err error
		if found, err = c.connect(ctx); err != nil {
			return nil, c.broken(ctx, err)
		}
	}
	return c.exchange(ctx, found), nil
}

// connect dials and takes the connection into the client's care.
func (c *Client) connect(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)()
	dialled, err := c.dial(ctx, guestwire.Port)
	if err != nil {
		return nil, err
	}
	made := &conn{Conn: dialled, reader: guestwire.NewReader(dialled)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conns == nil {
		_ = dialled.Close()
		return nil, errClosed
	}
	c.conns[made] = struct{}{}
	return made, nil
}

// discard closes a connection for good.
func (c *Client) discard(old *conn) {
	c.mu.Lock()
	delete(c.conns, old)
	c.mu.Unlock()
	_ = old.Close()
}

// takeIdle returns the idle connection used last, or nil. One that the guest
// has closed, or has sent something on, is not used again.
func (c *Client) takeIdle() *conn {
	for {
		c.mu.Lock()
		if len(c.idle) == 0 {
			c.mu.Unlock()
			return nil
		}
		last := len(c.idle) - 1
		found := c.idle[last]
		c.idle = c.idle[:last]
		c.mu.Unlock()
		if time.Since(found.idleSince) < idleTime && quiet(found.Conn) {
			return found
		}
		c.discard(found)
	}
}

// keep makes a connection whose call has ended idle.
func (c *Client) keep(used *conn) {
	used.idleSince = time.Now()
	c.mu.Lock()
	full := c.conns == nil || len(c.idle) >= maxIdle
	if !full {
		c.idle = append(c.idle, used)
	}
	c.mu.Unlock()
	if full {
		c.discard(used)
	}
}

// dropIdle closes every idle connection.
func (c *Client) dropIdle() {
	c.mu.Lock()
	idle := slices.Clone(c.idle)
	c.idle = nil
	c.mu.Unlock()
	for _, old := range idle {
		c.discard(old)
	}
}

// quiet reports whether conn is open and has nothing to read, without waiting.
func quiet(conn net.Conn) bool {
	sock, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sock.SyscallConn()
	if err != nil {
		return false
	}
	var peekErr error
	err = raw.Control(func(fd uintptr) {
		_, _, peekErr = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	return err == nil && peekErr == unix.EAGAIN
}
