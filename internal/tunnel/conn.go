package tunnel

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

const (
	headerBytes = 4
	// maxFrame is the largest length of a frame, in bytes.
	maxFrame = 64 << 10
	// smallFrame is the size, in bytes, up to which header and bytes are joined in one
	// buffer, since another copy costs less than another TLS record or a writev(2).
	smallFrame = 4 << 10
)

// Conn is one end of an open tunnel. One goroutine may read while another writes;
// CloseWrite and Close may be called from any.
type Conn struct {
	net.Conn
	r *bufio.Reader

	// Of the reader.
	header [headerBytes]byte
	got    int // bytes of header that have arrived
	left   int // bytes of the present frame that have not been read
	ended  bool

	mu     sync.Mutex // protects the following
	small  []byte
	closed bool // the end frame was sent
}

// newConn returns the end of a tunnel on conn. r reads from conn and may hold its
// first bytes.
func newConn(conn net.Conn, r *bufio.Reader) *Conn { return &Conn{Conn: conn, r: r} }

// Read implements net.Conn. It returns io.EOF after the peer's end frame, and
// io.ErrUnexpectedEOF if the connection ends without it. After a deadline that has
// passed, reading can continue.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if c.left == 0 {
		if err := c.readHeader(); err != nil {
			return 0, err
		}
	}
	p = p[:min(len(p), c.left)]
	n, err := c.r.Read(p)
	if 0 < n && n < len(p) && c.r.Buffered() == 0 {
		// r gave the bytes that came with the header. The peer has sent the others in the same
		// call, and two pieces would cost every later hop twice.
		var more int
		more, _ = c.r.Read(p[n:]) // an error comes again, a reset as the end
		n += more
	}
	c.left -= n
	if n > 0 {
		return n, nil
	}
	return 0, unexpected(err)
}

func (c *Conn) readHeader() error {
	if c.ended {
		return io.EOF
	}
	for c.got < headerBytes {
		n, err := c.r.Read(c.header[c.got:])
		c.got += n
		if n == 0 && err != nil {
			return unexpected(err)
		}
	}
	length := binary.BigEndian.Uint32(c.header[:])
	switch {
	case length == 0:
		c.ended = true
		return io.EOF
	case length > maxFrame:
		return fmt.Errorf("tunnel: a frame of %d bytes, more than %d", length, maxFrame)
	}
	c.got, c.left = 0, int(length)
	return nil
}

// unexpected returns err, or io.ErrUnexpectedEOF for io.EOF.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Write implements net.Conn. After an error, a deadline that has passed among them,
// the tunnel is unusable.
func (c *Conn) Write(p []byte) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	for n < len(p) && err == nil {
		piece := p[n:min(len(p), n+maxFrame)]
		if err = c.writeFrame(piece); err == nil {
			n += len(piece)
		}
	}
	return n, err
}

// writeFrame sends one frame. mu must be held.
func (c *Conn) writeFrame(p []byte) error {
	header := binary.BigEndian.AppendUint32(c.small[:0], uint32(len(p)))
	c.small = header
	if len(p) <= smallFrame {
		c.small = append(header, p...)
		_, err := c.Conn.Write(c.small)
		return err
	}
	buffers := net.Buffers{header, p}
	_, err := buffers.WriteTo(c.Conn)
	return err
}

// CloseWrite sends the end frame: the peer's Read returns io.EOF after the bytes
// written before.
func (c *Conn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	return c.writeFrame(nil)
}

// Close closes the connection. The peer sees an abort, unless both ends have called
// CloseWrite.
func (c *Conn) Close() error { return c.Conn.Close() }
