package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/wrenn-dev/wrenn/api/types"
)

// Traffic holds the means to reach a sandbox's ports.
type Traffic = types.Traffic

// Traffic returns the address and the token of a sandbox's ports.
func (c *Client) Traffic(ctx context.Context, id string) (*Traffic, error) {
	path, err := sandboxPath(id, "/traffic")
	if err != nil {
		return nil, err
	}
	out := new(Traffic)
	if _, err := c.call(ctx, request{method: http.MethodGet, path: path}, nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

// PortConn is a connection to a program in a sandbox. One goroutine may read while
// another writes. Read returns io.EOF once the program has ended its direction, and
// another error if the sandbox was paused or ended.
type PortConn interface {
	io.ReadWriteCloser
	// CloseWrite ends the direction to the program.
	CloseWrite() error
}

// DialPort connects to a program that listens on a TCP port of a sandbox. It resumes a
// paused sandbox with auto_resume first. ctx bounds that, not the connection, which the
// caller closes. The *Error has the code "port_refused" where nothing listens.
func (c *Client) DialPort(ctx context.Context, id string, port uint16) (PortConn, error) {
	path, err := sandboxPath(id, fmt.Sprintf("/ports/%d", port))
	if err != nil {
		return nil, err
	}
	plain := *c
	plain.HTTPClient = c.http1()
	// An open connection does not end with ctx.
	life, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	res, err := plain.send(life, request{
		method: http.MethodPost, path: path, header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"tcp"}},
	})
	if err != nil {
		cancel(nil)
		if cause := ctx.Err(); cause != nil {
			err = cause
		}
		return nil, err
	}
	conn, ok := res.Body.(PortConn)
	if !stop() || !ok {
		_ = res.Body.Close()
		cancel(nil)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return nil, errors.New("client: the server, or a proxy before it, opened no connection to the port")
	}
	return &portConn{conn, cancel}, nil
}

type portConn struct {
	PortConn
	cancel context.CancelCauseFunc
}

// Close closes the connection.
func (p *portConn) Close() error {
	defer p.cancel(nil)
	return p.PortConn.Close()
}

// http1 returns c's HTTP client for HTTP/1.1, since HTTP/2 has no upgrade.
func (c *Client) http1() *http.Client {
	out := http.Client{}
	if c.HTTPClient != nil {
		out = *c.HTTPClient
	}
	transport, ok := out.Transport.(*http.Transport)
	if out.Transport == nil {
		transport, ok = http.DefaultTransport.(*http.Transport)
	}
	if !ok {
		return &out
	}
	transport = transport.Clone()
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetHTTP1(true)
	transport.TLSNextProto = nil
	if transport.TLSClientConfig != nil {
		transport.TLSClientConfig.NextProtos = nil
	}
	transport.DisableKeepAlives = true
	out.Transport = transport
	return &out
}

// PortURL returns the address of a port: t.URL with the number of the port.
func PortURL(t *Traffic, port uint16) (string, error) {
	if t.URL == nil {
		return "", errors.New("client: the server has no domain for the ports of sandboxes")
	}
	return strings.ReplaceAll(*t.URL, "{port}", fmt.Sprint(port)) + "/", nil
}
