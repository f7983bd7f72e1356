package rpc

import (
	"io"
	"net"
	"sync"
)

// Connections that may be open at once. Programs inside the guest can reach
// the port too: they have a share of their own, so that they cannot lock the
// host out.
const (
	maxRemoteConns = 1024
	maxLocalConns  = 128
)

// boundedListener refuses connections over the limits by closing them.
type boundedListener struct {
	net.Listener

	mu     sync.Mutex // protects the following
	remote int
	local  int
}

func newBoundedListener(l net.Listener) *boundedListener { return &boundedListener{Listener: l} }

// Accept returns the next connection that is within the limits.
func (b *boundedListener) Accept() (net.Conn, error) {
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

func (b *boundedListener) take(count *int, limit int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if *count >= limit {
		return false
	}
	*count++
	return true
}

func (b *boundedListener) give(count *int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	*count--
}

// fromSelf reports whether both ends of conn are on this machine.
func fromSelf(conn net.Conn) bool {
	remote, ok1 := conn.RemoteAddr().(*net.TCPAddr)
	local, ok2 := conn.LocalAddr().(*net.TCPAddr)
	return ok1 && ok2 && (remote.IP.IsLoopback() || remote.IP.Equal(local.IP))
}

// countedConn gives its place back when it is closed.
type countedConn struct {
	net.Conn
	release func()
}

// ReadFrom lets files go out by sendfile(2).
func (c *countedConn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }

// NetConn returns the connection itself, for what only its own type can do.
func (c *countedConn) NetConn() net.Conn { return c.Conn }

// Close closes the connection.
func (c *countedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
