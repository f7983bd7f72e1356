package rpc

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// acceptPause is how long accepting rests when the machine has no room for
// another connection.
const acceptPause = 5 * time.Millisecond

// ServeChannel answers the lean channel on l until ctx ends. Then it closes
// every connection and waits until what they carried has ended.
func (s *Server) ServeChannel(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	w := workers{server: s, next: make(chan net.Conn)}
	defer w.running.Wait()
	defer cancel() // before the wait: it is what ends them
	bounded := newBoundedListener(l)
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
		case passing(err):
			rest(ctx, acceptPause)
		default:
			return err
		}
	}
}

// workers are the goroutines that serve connections. One that has nothing to do
// waits for the next: its stack has grown already, which in a clone it would
// have to do again.
type workers struct {
	server  *Server
	next    chan net.Conn
	running sync.WaitGroup
}

// serve has conn served, by a worker that waits or by a new one.
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
		err := fault.Caught(func() error { w.server.serveConn(ctx, conn); return nil })
		if err != nil {
			w.server.log.Error("serving a connection panicked", "error", err)
		}
		select {
		case conn = <-w.next:
		case <-ctx.Done():
			return
		}
	}
}

// passing reports whether err of accept(2) says nothing about the listener.
func passing(err error) bool {
	for _, e := range []error{syscall.ECONNABORTED, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// serveConn answers the calls of one connection, one after the other.
func (s *Server) serveConn(ctx context.Context, conn net.Conn) {
	s.conns.add(conn)
	defer s.conns.remove(conn)
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	c := &channel{server: s, conn: conn, reader: guestwire.NewReader(conn)}
	ctx = mark(ctx, conn)
	for patience := headerTimeLimit; c.serveCall(ctx, patience); {
		patience = idleTimeLimit
	}
}
