package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"
)

// link is the connection to one QEMU's monitor. It is made again when it has
// broken, because the process may only have been slow.
//
// Invariant: after close there is no connection, and none is made.
type link struct {
	path    string
	onEvent func(event)
	// onReconnect is called after each connection to a process that may have
	// sent events before it, which are lost.
	onReconnect func()

	mu     sync.Mutex // protects the following; held while connecting
	mon    *monitor
	fresh  bool // no connection has been made, and the process is new
	closed bool
}

// errLinkClosed is returned after close.
var errLinkClosed = errors.New("the VM has ended, or is another agent's")

// monitor returns the connection, which it makes where there is none. ctx
// bounds that.
func (l *link) monitor(ctx context.Context) (*monitor, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, errLinkClosed
	case l.mon != nil && !l.mon.ended():
		return l.mon, nil
	}
	conn, err := dialUnix(ctx, l.path)
	if err != nil {
		return nil, fmt.Errorf("connect to QMP: %w", err)
	}
	mon, err := newMonitor(ctx, conn, l.onEvent)
	if err != nil {
		return nil, fmt.Errorf("connect to QMP: %w", err)
	}
	if l.mon = mon; !l.fresh {
		l.onReconnect()
	}
	l.fresh = false
	return mon, nil
}

// connected reports whether there is a connection.
func (l *link) connected() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mon != nil && !l.mon.ended()
}

// dialUnix connects to the socket at path. QEMU lets one connection wait: where
// a process that did not answer has one left over, connect(2) fails with EAGAIN
// until it has taken that.
func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if !errors.Is(err, syscall.EAGAIN) {
			return conn, err
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return nil, errors.Join(err, context.Cause(ctx))
		}
	}
}

// close ends the connection and returns when its last event has been seen.
func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.mon != nil {
		l.mon.close()
	}
}
