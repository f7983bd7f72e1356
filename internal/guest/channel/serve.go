package channel

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/agent"
	"github.com/wrenn-dev/wrenn/internal/guest/listener"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
	"github.com/wrenn-dev/wrenn/internal/tunnel"
)

// acceptPause is the pause before another accept when the guest has no
// resources for a connection.
const acceptPause = 5 * time.Millisecond

// idleTimeLimit is how long a connection may stay open between two calls. It is longer
// than the time between two probes of an idle guest: to connect costs the guest more
// than to answer.
const idleTimeLimit = 10 * time.Minute

// Server serves the control channel of one agent.
type Server struct {
	agent *agent.Agent
	// dials has a place for each connection to a program.
	dials   chan struct{}
	buffers *tunnel.Buffers // of those connections
}

// New returns a server of a's control channel.
func New(a *agent.Agent) *Server {
	return &Server{agent: a, dials: make(chan struct{}, maxDials), buffers: tunnel.NewBuffers(dialBuffer, largeBuffer, maxLargeBuffers)}
}

// Serve serves the connections of l until ctx ends. Then it closes every
// connection and waits until its call has ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	w := workers{server: s, next: make(chan net.Conn)}
	defer w.running.Wait()
	defer cancel() // before the wait: it ends the workers
	bounded := listener.Bound(l)
	for {
		conn, err := bounded.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case err == nil:
			w.serve(ctx, conn)
		case temporary(err):
			pause(ctx, acceptPause)
		default:
			return err
		}
	}
}

// workers are the goroutines that serve connections. A worker without a
// connection waits for the next one: its stack has already grown, which in a
// clone a new goroutine would have to do again.
type workers struct {
	server  *Server
	next    chan net.Conn
	running sync.WaitGroup
}

// serve hands conn to a waiting worker or to a new one.
func (w *workers) serve(ctx context.Context, conn net.Conn) {
	select {
	case w.next <- conn:
	default:
		w.running.Go(func() { w.work(ctx, conn) })
	}
}

// work serves connections until ctx ends. There are never more workers than
// there were connections at once.
func (w *workers) work(ctx context.Context, conn net.Conn) {
	for {
		err := fault.Caught(func() error { w.server.ServeConn(ctx, conn); return nil })
		if err != nil {
			w.server.agent.Log().Error("serving a connection panicked", "error", err)
		}
		select {
		case conn = <-w.next:
		case <-ctx.Done():
			return
		}
	}
}

// temporary reports whether err of accept(2) concerns one connection or a lack
// of resources, and not the listener.
func temporary(err error) bool {
	for _, e := range []error{syscall.ECONNABORTED, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// pause returns after d or when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// ServeConn answers the calls of one connection, one after the other, until the
// peer or ctx ends it, and closes it.
func (s *Server) ServeConn(ctx context.Context, conn net.Conn) {
	s.agent.Connections().Add(conn)
	defer s.agent.Connections().Remove(conn)
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	c := &connection{agent: s.agent, server: s, conn: conn, reader: guestwire.NewReader(conn)}
	ctx = agent.OnConnection(ctx, conn)
	for limit := agent.OpeningTimeLimit; c.serveCall(ctx, limit); {
		limit = idleTimeLimit
	}
}
