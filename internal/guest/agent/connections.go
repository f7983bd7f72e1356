package agent

import (
	"context"
	"io"
	"sync"
)

// Connections holds the open connections of all transports, so that none
// outlives the sandbox that accepted it: after a restore their peers are gone,
// or belong to another clone. Its methods may be used from several goroutines.
type Connections struct {
	mu   sync.Mutex // protects the following
	open map[io.Closer]struct{}
}

// Add enters a connection.
func (c *Connections) Add(conn io.Closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = make(map[io.Closer]struct{})
	}
	c.open[conn] = struct{}{}
}

// Remove forgets a connection that has been closed or handed over.
func (c *Connections) Remove(conn io.Closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
}

type connectionKey struct{}

// OnConnection returns a context for calls that arrive on conn, which Configure
// and Quiesce then leave open.
func OnConnection(ctx context.Context, conn io.Closer) context.Context {
	return context.WithValue(ctx, connectionKey{}, conn)
}

// closeOthers closes every connection but the one of ctx's call.
func (c *Connections) closeOthers(ctx context.Context) {
	own, _ := ctx.Value(connectionKey{}).(io.Closer)
	c.mu.Lock()
	others := make([]io.Closer, 0, len(c.open))
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
