// Package listener bounds the connections that a guest's ports accept.
//
// The transports of the guest agent (channel, envd) serve through it. It never
// reads or writes a connection.
package listener

import (
	"io"
	"net"
	"sync"
)

// Numbers of connections that may be open at once. Programs inside the guest
// reach the port too: they have a limit of their own, so that they cannot lock
// the host out.
const (
	maxRemoteConns = 1024
	maxLocalConns  = 128
)

// bounded closes connections over the limits at once.
type bounded struct {
	net.Listener

	mu     sync.Mutex // protects the following
	remote int
	local  int
}

// Bound returns l with limits on the number of open connections.
func Bound(l net.Listener) net.Listener { return &bounded{Listener: l} }

// Accept returns the next connection that is within the limits.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		conn, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		count, limit := &b.remote, maxRemoteConns
		if fromSelf(conn) {
			count, limit = &b.local, maxLocalConns
		}
		if b.take(count, limit) {
			return &countedConn{Conn: conn, release: sync.OnceFunc(func() { b.give(count) })}, nil
		}
		_ = conn.Close()
	}
}

func (b *bounded) take(count *int, limit int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if *count >= limit {
		return false
	}
	*count++
	return true
}

func (b *bounded) give(count *int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	*count--
}

// fromSelf reports whether both ends of conn are in this guest.
func fromSelf(conn net.Conn) bool {
	remote, ok1 := conn.RemoteAddr().(*net.TCPAddr)
	local, ok2 := conn.LocalAddr().(*net.TCPAddr)
	return ok1 && ok2 && (remote.IP.IsLoopback() || remote.IP.Equal(local.IP))
}

// countedConn frees its place when it is closed.
type countedConn struct {
	net.Conn
	release func()
}

// ReadFrom lets the kernel send files by sendfile(2).
func (c *countedConn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }

// Unwrap returns the connection below conn, which the kernel can copy from and
// to without this process (splice(2), sendfile(2)).
func Unwrap(conn net.Conn) net.Conn {
	if c, ok := conn.(*countedConn); ok {
		return c.Conn
	}
	return conn
}

// Close closes the connection.
func (c *countedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
