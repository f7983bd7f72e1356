package traffic

import (
	"bytes"

	"github.com/wrenn-dev/wrenn/internal/control"
)

// wholeHead is a connection to a program on which the head of a request is written at
// once, and its body as it comes.
//
// net/http writes a request through a buffer, which would hold back the first bytes of
// a body of known length until the buffer is full. The transport therefore has a buffer
// of one byte, and the head is put together here.
type wholeHead struct {
	control.PortConn
	head []byte
	sent bool
}

var endOfHead = []byte("\r\n\r\n")

// Write implements net.Conn.
func (c *wholeHead) Write(p []byte) (int, error) {
	if c.sent {
		return c.PortConn.Write(p)
	}
	c.head = append(c.head, p...)
	if !bytes.HasSuffix(c.head, endOfHead) {
		return len(p), nil
	}
	c.sent = true
	_, err := c.PortConn.Write(c.head)
	c.head = nil
	if err != nil {
		return 0, err
	}
	return len(p), nil
}
