package traffic

import (
	"bytes"
	"errors"
	"net"
)

// wholeHead is a connection to a program on which the head of a request is written at
// once, and its body as it comes.
//
// net/http writes a request through a buffer, which would hold back the first bytes of
// a body of known length until the buffer is full. The transport therefore has a buffer
// of one byte, and the head is put together here.
type wholeHead struct {
	net.Conn
	head []byte
	sent bool
}

// CloseWrite ends the direction to the program, for upgraded connections.
func (c *wholeHead) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

var endOfHead = []byte("\r\n\r\n")

// Write implements net.Conn.
func (c *wholeHead) Write(p []byte) (int, error) {
	if c.sent {
		return c.Conn.Write(p)
	}
	c.head = append(c.head, p...)
	if !bytes.HasSuffix(c.head, endOfHead) {
		return len(p), nil
	}
	c.sent = true
	_, err := c.Conn.Write(c.head)
	c.head = nil
	if err != nil {
		return 0, err
	}
	return len(p), nil
}
