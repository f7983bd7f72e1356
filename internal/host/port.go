package host

import (
	"context"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
	"github.com/wrenn-dev/wrenn/internal/tunnel"
)

const (
	// MaxPorts is the number of connections to ports of one sandbox that may be open
	// through the host agent at once.
	MaxPorts = 512
	// portDialTimeout bounds connecting to a port. A guest whose virtual CPUs run
	// answers at once, also under emulation.
	portDialTimeout = 10 * time.Second
	// portQuiet is the time without a byte after which a pause cuts a connection
	// without waiting for its end: it may be idle for hours.
	portQuiet = time.Second
)

// Port is a connection to a program in a guest. Carry or Close must be called, and
// ends the lease on the guest.
type Port struct {
	conn  *guestclient.Port
	lease *lease
}

// DialPort connects to a program that listens on a TCP port of a guest. The error is
// HostFailed port_refused where nothing listens, and Quota too_many_connections where
// MaxPorts are open. A passive connection is no use of the sandbox.
func (m *Manager) DialPort(ctx context.Context, ref sandbox.Ref, port uint16, passive bool) (*Port, error) {
	mc, err := m.find(ref.ID)
	if err != nil {
		return nil, err
	}
	purpose := usePort
	if passive {
		purpose = usePassivePort
	}
	l, err := mc.acquire(ctx, ref, purpose)
	if err != nil {
		return nil, err
	}
	dial, cancel := context.WithTimeout(l.ctx, portDialTimeout)
	defer cancel()
	conn, err := l.guest.DialPort(dial, port)
	if err != nil {
		err = l.err(err)
		l.release()
		return nil, err
	}
	return &Port{conn: conn, lease: l}, nil
}

// Carry copies bytes between the program and peer until both have ended. Bytes that
// move are activity, unless the connection is passive. When the sandbox pauses or ends, or the agent stops, both are
// aborted, and the error is the reason.
func (p *Port) Carry(peer tunnel.Stream) error {
	defer p.lease.release()
	m := p.lease.m.mgr
	stop := context.AfterFunc(m.life, func() {
		p.lease.cancel(fault.New(fault.HostFailed, "host_stopping", "the host agent is stopping"))
	})
	defer stop()
	return p.lease.err(tunnel.Carry(p.lease.ctx, peer, p.conn, p.lease.touch))
}

// Close aborts a connection that Carry was not called for.
func (p *Port) Close() {
	tunnel.Abort(p.conn)
	p.lease.release()
}

// portsLocked returns an error if no further connection to a port may be opened. mu
// must be held.
func (m *machine) portsLocked() error {
	open := 0
	for l := range m.leases {
		if l.use == usePort || l.use == usePassivePort {
			open++
		}
	}
	if open >= MaxPorts {
		return fault.New(fault.Quota, "too_many_connections",
			"sandbox %s has %d open connections to its ports; close some, or try again later", m.view.Ref.ID, open)
	}
	return nil
}

// quiet reports whether a pause need not wait for l: a connection to a port on which no
// byte has moved lately, a passive one, or a reader that can begin again.
func (l *lease) quiet() bool {
	switch l.use {
	case useFollow, usePassivePort, usePassiveCall:
		return true
	case usePort:
		return time.Since(l.activeAt()) >= portQuiet
	}
	return false
}
