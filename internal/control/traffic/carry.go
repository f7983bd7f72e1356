package traffic

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/tunnel"
)

// upgradeTCP is the protocol of a request that becomes a raw connection.
const upgradeTCP = "tcp"

// wantsBytes reports whether r asks for a raw connection to its port.
func wantsBytes(r *http.Request) bool {
	return r.Method == http.MethodConnect || r.ProtoMajor == 1 && strings.EqualFold(r.Header.Get("Upgrade"), upgradeTCP)
}

// carry connects the client of r with the program, byte by byte.
func (h *Handler) carry(w http.ResponseWriter, r *http.Request, t target) {
	port, err := h.dialPatiently(r.Context(), t)
	if err != nil {
		h.refuse(w, r, t, err)
		return
	}
	if r.ProtoMajor >= 2 {
		carryStream(w, r, port)
		return
	}
	client, err := hijack(w, r)
	if err != nil {
		tunnel.Abort(port)
		h.Log.DebugContext(r.Context(), "a raw connection could not be opened", "error", err)
		return
	}
	if err := tunnel.Carry(r.Context(), client, port, func() {}); err != nil {
		h.Log.DebugContext(context.WithoutCancel(r.Context()), "a raw connection was aborted", "sandbox", t.id, "error", err)
	}
}

// hijack takes over the connection of r and sends the answer that opens it.
func hijack(w http.ResponseWriter, r *http.Request) (*clientConn, error) {
	answer := "HTTP/1.1 200 Connection established\r\n\r\n"
	if r.Method != http.MethodConnect {
		answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + upgradeTCP + "\r\n\r\n"
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	if err = conn.SetDeadline(time.Time{}); err == nil {
		_, err = io.WriteString(conn, answer)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &clientConn{Conn: conn, r: buffered.Reader}, nil
}

// clientConn is a client's connection after its request.
type clientConn struct {
	net.Conn
	r       *bufio.Reader // may hold the first bytes
	aborted atomic.Bool
}

// Read implements net.Conn. Beyond the buffered bytes it reads from the connection
// itself: net/http's reader cancels the request's context when the client ends its
// direction.
func (c *clientConn) Read(p []byte) (int, error) {
	if n := c.r.Buffered(); n > 0 {
		return c.r.Read(p[:min(len(p), n)])
	}
	return c.Conn.Read(p)
}

// CloseWrite implements tunnel.Stream.
func (c *clientConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// SetLinger makes Close an abort, also of a connection with TLS: closing that in good
// order would say that all bytes have been sent.
func (c *clientConn) SetLinger(sec int) error {
	c.aborted.Store(true)
	if tcp, ok := c.below().(*net.TCPConn); ok {
		return tcp.SetLinger(sec)
	}
	return nil
}

// below returns the connection below TLS.
func (c *clientConn) below() net.Conn {
	if secure, ok := c.Conn.(*tls.Conn); ok {
		return secure.NetConn()
	}
	return c.Conn
}

// Close implements net.Conn.
func (c *clientConn) Close() error {
	if c.aborted.Load() {
		return c.below().Close()
	}
	return c.Conn.Close()
}

// carryStream is carry for a stream of HTTP/2. When the program ends its direction, the
// stream ends.
func carryStream(w http.ResponseWriter, r *http.Request, port control.PortConn) {
	stop := context.AfterFunc(r.Context(), func() { tunnel.Abort(port) })
	defer stop()
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	_ = rc.Flush()
	sent := make(chan error, 1)
	go func() {
		sent <- fault.Caught(func() error {
			_, err := io.Copy(port, r.Body)
			if err != nil {
				tunnel.Abort(port)
				return err
			}
			return port.CloseWrite()
		})
	}()
	_, err := io.CopyBuffer(flushed{w, rc}, onlyReader{port}, make([]byte, copyBytes))
	tunnel.Abort(port)
	_ = r.Body.Close()
	<-sent // its outcome does not matter once the program has ended its direction
	if err != nil {
		panic(http.ErrAbortHandler) // which resets the stream
	}
}

// onlyReader hides all methods but Read.
type onlyReader struct{ io.Reader }

// flushed sends each piece at once.
type flushed struct {
	w  io.Writer
	rc *http.ResponseController
}

// Write implements io.Writer.
func (f flushed) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err == nil {
		err = f.rc.Flush()
	}
	return n, err
}
