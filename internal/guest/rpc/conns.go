package rpc

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// connections knows the open connections of the server, so that none outlives
// the machine it was made to: after a restore their peers are gone, or belong
// to another clone.
type connections struct {
	mu   sync.Mutex // protects the following
	open map[net.Conn]struct{}
}

type connKey struct{}

// track is for http.Server.ConnState.
func (c *connections) track(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		c.add(conn)
	case http.StateClosed, http.StateHijacked:
		c.remove(conn)
	}
}

func (c *connections) add(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[conn] = struct{}{}
}

func (c *connections) remove(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
}

// mark puts a request's connection into its context, as http.Server.ConnContext
// wants it.
func mark(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// closeOthers closes every connection but the one of ctx's request.
func (c *connections) closeOthers(ctx context.Context) {
	own, _ := ctx.Value(connKey{}).(net.Conn)
	c.mu.Lock()
	others := make([]net.Conn, 0, len(c.open))
	for conn := range c.open {
		if conn != own {
			others = append(others, conn)
		}
	}
	c.mu.Unlock()
	for _, conn := range others {
		_ = conn.Close()
	}
}
