package tunnel

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"time"
)

// Path is the path of requests for a tunnel on the listener of a host agent.
const Path = "/host.v1.tunnel"

// HeaderPassive is set in a request for a tunnel whose bytes are no use of the sandbox.
// An agent that does not know it takes them for use.
const HeaderPassive = "Wrenn-Tunnel-Passive"

const (
	upgradeToken = "wrenn-tunnel"
	// maxRequest bounds the message of a request, and maxRefusal the body of an answer
	// that refuses it, in bytes.
	maxRequest = 4 << 10
	maxRefusal = 64 << 10
	// readerBytes is the size of the buffer of a Conn's reader. Reads of more bypass it.
	readerBytes = 4 << 10
)

// Refusal is the answer of a peer that does not open a tunnel.
type Refusal struct {
	Status int
	Header http.Header
	Body   []byte
}

// Error implements error.
func (r *Refusal) Error() string { return fmt.Sprintf("tunnel: refused with status %d", r.Status) }

// Dial asks the peer of conn for a tunnel with the given headers and message, and
// returns the open tunnel on conn. ctx bounds the request, not the tunnel. On error
// conn is closed; the error is a *Refusal if the peer has answered.
func Dial(ctx context.Context, conn net.Conn, header http.Header, message []byte) (*Conn, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	c, err := request(conn, header, message)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	return c, nil
}

func request(conn net.Conn, header http.Header, message []byte) (*Conn, error) {
	r, err := http.NewRequest(http.MethodPost, "http://host-agent"+Path, bytes.NewReader(message))
	if err != nil {
		return nil, err
	}
	maps.Copy(r.Header, header)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", upgradeToken)
	if err := r.Write(conn); err != nil {
		return nil, err
	}
	in := bufio.NewReaderSize(conn, readerBytes)
	answer, err := http.ReadResponse(in, r)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode == http.StatusSwitchingProtocols && asksForTunnel(answer.Header) {
		return newConn(conn, in), nil
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxRefusal))
	if err != nil {
		return nil, err
	}
	return nil, &Refusal{Status: answer.StatusCode, Header: answer.Header, Body: body}
}

func asksForTunnel(h http.Header) bool { return strings.EqualFold(h.Get("Upgrade"), upgradeToken) }

// ReadRequest returns the message of a request for a tunnel. ok is false for a request
// that is none.
func ReadRequest(r *http.Request) (message []byte, ok bool) {
	if r.Method != http.MethodPost || r.ProtoMajor != 1 || !asksForTunnel(r.Header) {
		return nil, false
	}
	message, err := io.ReadAll(io.LimitReader(r.Body, maxRequest+1))
	return message, err == nil && len(message) <= maxRequest
}

// Accept answers a request that ReadRequest has read, and returns the open tunnel. The
// caller has written nothing to w, and owns the tunnel.
func Accept(w http.ResponseWriter) (*Conn, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	answer := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + upgradeToken + "\r\n\r\n"
	if err := conn.SetDeadline(time.Time{}); err == nil {
		_, err = io.WriteString(conn, answer)
		if err == nil {
			return newConn(conn, buffered.Reader), nil
		}
	}
	_ = conn.Close()
	return nil, net.ErrClosed
}
