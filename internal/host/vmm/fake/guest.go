package fake

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/agent"
	"github.com/wrenn-dev/wrenn/internal/guest/agent/agenttest"
	"github.com/wrenn-dev/wrenn/internal/guest/channel"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// guest is the real guest agent of one process.
type guest struct {
	agent  *agent.Agent
	server *channel.Server
	ctx    context.Context
	cancel context.CancelFunc
	calls  sync.WaitGroup
}

// platform is that of a guest without privileges. The agent's settings are in
// guest memory, and it changes anything only while the virtual CPUs run.
type platform struct {
	agenttest.Platform
	process *process
}

// SaveSettings implements agent.SettingsStore.
func (p *platform) SaveSettings(b []byte) error {
	return p.process.whenRunning(func() error {
		return p.process.updateRAM(func(r *ram) { r.Settings = slices.Clone(b) })
	})
}

// LoadSettings implements agent.SettingsStore.
func (p *platform) LoadSettings() ([]byte, error) {
	p.process.mu.Lock()
	defer p.process.mu.Unlock()
	r, err := p.process.readRAM()
	return r.Settings, err
}

// AdjustClock implements agent.Kernel. The guest's clock is that of the test.
func (p *platform) AdjustClock(time.Duration) (time.Duration, error) { return 0, nil }

// loadGuest makes the guest of a stopped process. Unless saved is nil, it was saved
// with the present memory. files puts the guest's files into root.
func (p *process) loadGuest(saved *deviceState, files func() error) (err error) {
	if p.root, err = os.MkdirTemp(p.host.dir, "guest"); err != nil {
		return err
	}
	if saved != nil {
		r, err := p.readRAM()
		if err != nil {
			return err
		}
		if r.Stamp != saved.Stamp {
			return fmt.Errorf("memory was left at the stop %q, the device state at %q", r.Stamp, saved.Stamp)
		}
		p.stamp = saved.Stamp
	}
	if err := files(); err != nil {
		return err
	}
	// Homes are absolute paths, and this guest's are below another root.
	if _, err = agenttest.Root(p.root); err != nil {
		return err
	}
	g := &guest{}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.agent = agent.New(agent.Config{Platform: &platform{process: p}, Root: p.root, Log: slog.New(slog.DiscardHandler), Version: "fake"})
	g.server = channel.New(g.agent)
	p.guest = g
	return nil
}

// serve answers the calls of one connection.
func (g *guest) serve(conn net.Conn) error {
	defer conn.Close()
	g.server.ServeConn(g.ctx, conn)
	return nil
}

// close ends the guest's connections and commands.
func (g *guest) close() {
	g.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = g.agent.Close(ctx)
	g.calls.Wait()
}

// dial connects to the guest.
func (p *process) dial(ctx context.Context, port uint16) (net.Conn, error) {
	if port != guestwire.Port {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	if err := p.awaitRunning(ctx); err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	outer, err := connOf(fds[0])
	if err != nil {
		_ = unix.Close(fds[1])
		return nil, err
	}
	inner, err := connOf(fds[1])
	if err != nil {
		_ = outer.Close()
		return nil, err
	}
	p.do(func() {
		p.guest.calls.Go(func() { _ = fault.Caught(func() error { return p.guest.serve(&gatedConn{inner, p}) }) })
	})
	if p.ended() {
		_ = inner.Close() // also if it ended just now and serves it: closing twice is harmless
	}
	return outer, nil
}

func connOf(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "guest")
	defer f.Close()
	return net.FileConn(f)
}

// gatedConn is the guest's end of a connection. Nothing passes while the guest
// is stopped.
type gatedConn struct {
	net.Conn
	process *process
}

// CloseWrite ends the direction to the host.
func (c *gatedConn) CloseWrite() error { return c.Conn.(*net.UnixConn).CloseWrite() }

// Read implements net.Conn.
func (c *gatedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if gate := c.process.awaitRunning(context.Background()); gate != nil {
		return 0, gate
	}
	return n, err
}

// Write implements net.Conn.
func (c *gatedConn) Write(b []byte) (int, error) {
	if err := c.process.awaitRunning(context.Background()); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
