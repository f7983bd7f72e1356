package traffic

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/tunnel"
)

// maxHandshake is the longest that a program may take for a handshake of TLS.
const maxHandshake = 10 * time.Second

// secure begins TLS on conn, the connection to a program that speaks TLS itself. It takes
// over conn, also if it fails.
//
// The program's certificate is not checked: the connection ends in the very sandbox, and
// nobody but that sandbox could use another certificate.
func (h *Handler) secure(ctx context.Context, conn control.PortConn, t target) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, maxHandshake)
	defer cancel()
	c := tls.Client(conn, &tls.Config{
		ServerName:         fmt.Sprintf("%d-%s.%s", t.port, t.id, h.Domain),
		InsecureSkipVerify: true, //nolint:gosec // see above
		NextProtos:         []string{"http/1.1"},
	})
	if err := c.HandshakeContext(ctx); err != nil {
		tunnel.Abort(conn)
		return nil, fmt.Errorf("TLS with the program: %w", err)
	}
	return &wholeHead{Conn: c}, nil
}

// protocol names the protocol that the program of t has to speak.
func (t target) protocol() string {
	if t.tls {
		return "HTTP over TLS"
	}
	return "HTTP"
}
