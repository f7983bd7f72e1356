package guestclient

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// conn is a connection of the control channel.
type conn struct {
	net.Conn
	client    *Client
	reader    *guestwire.Reader
	out       []byte // reused for every call
	idleSince time.Time
	// limited is the exchange whose reads fail after the client's stall limit; nil
	// while only the end of the exchange ends a read.
	limited *exchange
}

// Read implements net.Conn. It records the time of the last bytes.
func (c *conn) Read(p []byte) (int, error) {
	x := c.limited
	if x != nil {
		_ = c.SetReadDeadline(time.Now().Add(c.client.stall))
		if x.ctx.Err() != nil {
			// The end of ctx sets a deadline in the past. The line above may have
			// replaced it.
			_ = c.SetReadDeadline(time.Unix(1, 0))
		}
	}
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.client.heard.Store(int64(time.Since(c.client.born)))
	}
	if x != nil && x.ctx.Err() == nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return n, errStalled
	}
	return n, err
}

const (
	// retryPause is the pause between two attempts to reach a guest.
	retryPause = 5 * time.Millisecond
	// bootDialTimeout is short: a packet sent before a booting guest's network is
	// up is lost, and the kernel would resend it only after a second.
	bootDialTimeout = 50 * time.Millisecond
	// restoredDialTimeout is long: the network card of a restored guest has the
	// packet, but the guest needs time to answer. Another attempt would only be
	// more work for it.
	restoredDialTimeout = 900 * time.Millisecond
	// answerTimeout bounds the answer to a ping on an open connection.
	answerTimeout = 3 * time.Second
	// The limits of an attempt grow to the time since the first attempt divided by
	// dialShare and answerShare. Otherwise a guest that always needs longer than
	// the first limit would never be reached.
	dialShare   = 10
	answerShare = 4
)

// attemptLimits returns how long an attempt may take to connect and to get an
// answer. passed is the time since the first attempt.
func attemptLimits(dialTimeout, passed time.Duration) (dial, answer time.Duration) {
	return max(dialTimeout, passed/dialShare), max(answerTimeout, passed/answerShare)
}

// reach returns an exchange on a connection over which the guest has just
// answered. It retries until ctx ends; there is no event to wait for, because the
// guest cannot call the host. dialTimeout bounds the first attempts to connect;
// see attemptLimits for the later ones.
func (c *Client) reach(ctx context.Context, dialTimeout time.Duration) (*exchange, error) {
	began, pause := time.Now(), time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, fault.Wrap(ctx.Err(), fault.Timeout, "guest_not_ready", "the sandbox did not become ready in time")
		case <-c.life.Done():
			return nil, errClosed
		case <-pause.C:
		}
		dial, answer := attemptLimits(dialTimeout, time.Since(began))
		if x, err := c.probe(ctx, dial, answer); err == nil {
			return x, nil
		}
		pause.Reset(retryPause)
	}
}

// probe sends one ping. dial and answer bound its two steps.
func (c *Client) probe(ctx context.Context, dial, answer time.Duration) (*exchange, error) {
	found := c.takeIdle()
	if found == nil {
		dialCtx, cancel := context.WithTimeout(ctx, dial)
		defer cancel()
		var err error
		if found, err = c.connect(dialCtx); err != nil {
			return nil, err
		}
	}
	pingCtx, cancel := context.WithTimeout(ctx, answer)
	defer cancel()
	ping := c.exchange(pingCtx, found)
	if err := ping.roundTrip(guestwire.Ping, nil, nil); err != nil {
		return nil, err
	}
	if !ping.detach() {
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

// connect dials and registers the connection, which Close then closes.
func (c *Client) connect(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)()
	dialled, err := c.dial(ctx, guestwire.Port)
	if err != nil {
		return nil, err
	}
	made := &conn{Conn: dialled, client: c}
	made.reader = guestwire.NewReader(made)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conns == nil {
		_ = dialled.Close()
		return nil, errClosed
	}
	c.conns[made] = struct{}{}
	return made, nil
}

// discard closes a connection and forgets it.
func (c *Client) discard(old *conn) {
	c.mu.Lock()
	delete(c.conns, old)
	c.mu.Unlock()
	_ = old.Close()
}

// takeIdle returns the idle connection used last, or nil. It discards connections
// that the guest has closed or has sent bytes on.
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

// keep stores a connection whose call has ended as idle.
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

// quiet reports whether conn is open and has no bytes to read, without waiting.
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
