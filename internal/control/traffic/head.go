package traffic

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"

	"github.com/wrenn-dev/wrenn/internal/tunnel"
)

// wholeHead is a connection to a program on which the head of a request is written at
// once, and its body as it comes.
//
// net/http writes a request through a buffer, which would hold back the first bytes of
// a body of known length until the buffer is full. The transport therefore has a buffer
// of one byte, and the head is put together here. So is the framing of a body of unknown
// length, because each write costs every hop to the guest some system calls.
//
// A program can answer with a change of protocols before the head has been written, and then two
// goroutines of net/http write. Such a request has no body (see rewrite).
type wholeHead struct {
	net.Conn
	mu sync.Mutex // protects the following
	// held are bytes for the connection that wait for those after them.
	held []byte
	next part
	// left is the number of bytes of the present chunk, or of the end of its line, that
	// net/http has yet to write.
	left int64
}

// part is a part of a request, as net/http writes it (RFC 9112, section 7.1).
type part int

const (
	headPart part = iota
	bodyPart      // of known length, or what follows an upgrade
	sizePart      // the line with the size of a chunk
	dataPart      // the bytes of a chunk
	linePart      // the end of the line after them, which is sent with them
	tailPart      // the last chunk and the trailers
)

// CloseWrite ends the direction to the program, for upgraded connections.
func (c *wholeHead) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// ReadFrom implements io.ReaderFrom. net/http copies bodies of known length with it.
func (c *wholeHead) ReadFrom(r io.Reader) (int64, error) { return tunnel.Copy(c, r) }

var (
	endOfHead = []byte("\r\n\r\n")
	endOfLine = []byte("\r\n")
	// chunked is the line of a head that net/http writes before a body of unknown length. A
	// client's own line does not come so far.
	chunked = []byte("\r\nTransfer-Encoding: chunked\r\n")
)

// smallPiece is the size, in bytes, up to which a connection keeps the memory for a chunk.
const smallPiece = 8 << 10

// largePieces has the memory for larger chunks, while they are written. Package tunnel
// bounds their number.
var largePieces = sync.Pool{New: func() any { return new([]byte) }}

// Write implements net.Conn.
func (c *wholeHead) Write(p []byte) (written int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == bodyPart {
		return c.Conn.Write(p)
	}
	for written < len(p) && err == nil {
		var n int
		n, err = c.take(p[written:])
		written += n
	}
	return written, err
}

// take takes the bytes of one part from p, which has at least one. mu must be held.
func (c *wholeHead) take(p []byte) (int, error) {
	switch c.next {
	case headPart, tailPart:
		c.held = append(c.held, p...)
		if !bytes.HasSuffix(c.held, endOfHead) {
			return len(p), nil
		}
		isChunked := c.next == headPart && bytes.Contains(c.held, chunked)
		c.next = bodyPart
		if isChunked {
			c.next = sizePart
		}
		err := c.send()
		c.held = nil // a head can be large, and the connection can last
		return len(p), err
	case sizePart:
		n := bytes.IndexByte(p, '\n') + 1
		if n == 0 {
			c.held = append(c.held, p...)
			return len(p), nil
		}
		c.held = append(c.held, p[:n]...)
		size, err := strconv.ParseUint(string(bytes.TrimSuffix(c.held, endOfLine)), 16, 63)
		if err != nil {
			return 0, fmt.Errorf("the size of a chunk: %w", err)
		}
		c.next, c.left = dataPart, int64(size)
		if size == 0 {
			c.next = tailPart
		}
		return n, nil
	case dataPart:
		n := int(min(int64(len(p)), c.left))
		if n > smallPiece {
			small, large := c.held, largePieces.Get().(*[]byte)
			c.held = append((*large)[:0], small...)
			defer func() {
				*large, c.held = c.held, small[:0]
				largePieces.Put(large)
			}()
		}
		c.held = append(c.held, p[:n]...)
		if c.left -= int64(n); c.left == 0 {
			c.held = append(c.held, endOfLine...)
			c.next, c.left = linePart, int64(len(endOfLine))
		}
		return n, c.send()
	case linePart: // it was sent
		n := int(min(int64(len(p)), c.left))
		if c.left -= int64(n); c.left == 0 {
			c.next = sizePart
		}
		return n, nil
	}
	return c.Conn.Write(p)
}

// send writes the bytes that were held. mu must be held.
func (c *wholeHead) send() error {
	_, err := c.Conn.Write(c.held)
	c.held = c.held[:0]
	return err
}
