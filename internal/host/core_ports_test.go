package host_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/hostclient"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/rpc"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// portBench is a core behind its RPC server, with a program that listens on port 80 of
// each guest.
type portBench struct {
	*core
	client *hostclient.Client
	socket string
	// accepted are the program's connections.
	accepted chan *net.TCPConn
}

const agentToken = "agent-token"

func newPortBench(t *testing.T) *portBench {
	t.Helper()
	c := newCore(t, fastTemp(t))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	b := &portBench{core: c, accepted: make(chan *net.TCPConn, host.MaxPorts+1), socket: filepath.Join(t.TempDir(), "agent.sock")}
	c.programs = map[uint16]net.Listener{80: l}
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b.accepted <- conn.(*net.TCPConn)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-accepting })
	b.serve()
	return b
}

// serve serves the Manager until the test ends.
func (b *portBench) serve() {
	t := b.t
	t.Helper()
	handler, err := rpc.NewHandler(b.Manager, agentToken, hosttest.Log())
	check(t, err)
	l, err := net.Listen("unix", b.socket)
	check(t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(ctx, l, handler) }()
	b.client, err = hostclient.New("unix://"+b.socket, hostclient.Access{Token: agentToken})
	check(t, err)
	t.Cleanup(func() {
		b.client.Close()
		stop()
		check(t, <-served)
	})
}

// dial opens a tunnel to port 80 and returns both ends.
func (b *portBench) dial(ref sandbox.Ref) (control.PortConn, *net.TCPConn) {
	b.t.Helper()
	conn, err := b.client.DialPort(b.t.Context(), ref, 80)
	check(b.t, err)
	program := <-b.accepted
	b.t.Cleanup(func() { _, _ = conn.Close(), program.Close() })
	return conn, program
}

// wantAborted fails the test unless the next read of each conn is an error that is no
// end.
func wantAborted(t *testing.T, conns ...net.Conn) {
	t.Helper()
	for i, conn := range conns {
		check(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err := conn.Read(make([]byte, 1))
		var slow net.Error
		if err == nil || err == io.EOF || errors.As(err, &slow) && slow.Timeout() {
			t.Errorf("connection %d: %v, want an abort", i, err)
		}
	}
}

func TestPort(t *testing.T) {
	t.Parallel()
	b := newPortBench(t)
	ref := b.create()
	conn, program := b.dial(ref)
	_, err := conn.Write([]byte("question"))
	check(t, errors.Join(err, conn.CloseWrite()))
	if got, err := io.ReadAll(program); string(got) != "question" || err != nil {
		t.Errorf("the program got %q, %v", got, err)
	}
	_, err = program.Write([]byte("answer"))
	check(t, errors.Join(err, program.Close()))
	if got, err := io.ReadAll(conn); string(got) != "answer" || err != nil {
		t.Errorf("the client got %q, %v", got, err)
	}
}

func TestPortFaults(t *testing.T) {
	t.Parallel()
	b := newPortBench(t)
	ref := b.create()
	for _, c := range []struct {
		name   string
		ref    sandbox.Ref
		port   uint16
		kind   fault.Kind
		reason string
	}{
		{"nothing listens", ref, 81, fault.HostFailed, "port_refused"},
		{"the control channel", ref, guestwire.Port, fault.Forbidden, "port_reserved"},
		{"port 0", ref, 0, fault.Forbidden, "port_reserved"},
		{"an old incarnation", sandbox.Ref{ID: ref.ID, Generation: ref.Generation + 1}, 80, fault.Stale, "stale_generation"},
		{"no such sandbox", newRef(), 80, fault.NotFound, "sandbox_not_found"},
	} {
		_, err := b.client.DialPort(t.Context(), c.ref, c.port)
		if !fault.Is(err, c.kind) || fault.ReasonOf(err) != c.reason {
			t.Errorf("%s: %v, want %v %s", c.name, err, c.kind, c.reason)
		}
	}
	stranger, err := hostclient.New("unix://"+b.socket, hostclient.Access{Token: "wrong"})
	check(t, err)
	defer stranger.Close()
	if _, err := stranger.DialPort(t.Context(), ref, 80); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("with a wrong token: %v, want unauthenticated", err)
	}
	pauseSubject(b.core, ref)
	if _, err := b.client.DialPort(t.Context(), ref, 80); !fault.Is(err, fault.WrongState) {
		t.Errorf("while paused: %v, want a wrong state", err)
	}
}

// TestPortRequestIsNoOther: no other request reaches a port.
func TestPortRequestIsNoOther(t *testing.T) {
	t.Parallel()
	b := newPortBench(t)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", b.socket)
	}}}
	defer client.CloseIdleConnections()
	for _, upgrade := range []string{"", "websocket", "wrenn-tunnel"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://agent/host.v1.tunnel", strings.NewReader("\xff\xff"))
		check(t, err)
		r.Header.Set("Authorization", "Bearer "+agentToken)
		if upgrade != "" {
			r.Header.Set("Connection", "Upgrade")
			r.Header.Set("Upgrade", upgrade)
		}
		resp, err := client.Do(r)
		check(t, err)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("Upgrade %q without a message: status %d, want 400", upgrade, resp.StatusCode)
		}
	}
}

// TestPauseAbortsPorts: an idle connection does not delay a pause, and neither end can
// take the cut for a clean end.
func TestPauseAbortsPorts(t *testing.T) {
	t.Parallel()
	b := newPortBench(t)
	b.change = func(cfg *host.Config) { cfg.PauseGrace = 10 * time.Minute } // longer than the test may take
	b.restart()
	b.socket += "2"
	b.serve()
	ref := b.create()
	conn, program := b.dial(ref)
	for active := b.of(ref).LastActiveAt; time.Since(active) < host.PortQuiet; {
		time.Sleep(host.PortQuiet / 10)
	}
	pauseSubject(b.core, ref)
	wantAborted(t, conn, program)
}

func TestEndAbortsPorts(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(b *portBench, ref sandbox.Ref) error{
		"destroy": func(b *portBench, ref sandbox.Ref) error { return b.Destroy(b.t.Context(), ref, "") },
		"the agent stops": func(b *portBench, _ sandbox.Ref) error {
			defer b.open() // for the clean-up
			return b.Close()
		},
		"the VM dies": func(b *portBench, _ sandbox.Ref) error {
			b.machine.Close()
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newPortBench(t)
			ref := b.create()
			conn, program := b.dial(ref)
			check(t, end(b, ref))
			wantAborted(t, conn, program)
		})
	}
}

// TestPortActivity: bytes that move are use of the sandbox, an open connection is not.
func TestPortActivity(t *testing.T) {
	t.Parallel()
	b := newPortBench(t)
	ref := b.create()
	conn, program := b.dial(ref)
	opened := b.of(ref).LastActiveAt
	if later := b.of(ref).LastActiveAt; !later.Equal(opened) {
		t.Errorf("an idle connection is active at %v, want still %v", later, opened)
	}
	_, err := conn.Write([]byte("x"))
	check(t, err)
	_, err = program.Read(make([]byte, 1))
	check(t, err)
	if moved := b.of(ref).LastActiveAt; !moved.After(opened) {
		t.Errorf("after a byte the sandbox was active at %v, want later than %v", moved, opened)
	}
}

// TestPassivePort: bytes that move on a passive connection are no use of the sandbox, and
// it has one of the places.
func TestPassivePort(t *testing.T) {
	t.Parallel()
	b := newPortBench(t)
	ref := b.create()
	before := b.of(ref).LastActiveAt
	conn, err := b.client.DialPort(t.Context(), ref, 80, control.Passive)
	check(t, err)
	program := <-b.accepted
	defer program.Close()
	_, err = conn.Write([]byte("x"))
	check(t, err)
	_, err = program.Read(make([]byte, 1))
	check(t, err)
	if now := b.of(ref).LastActiveAt; !now.Equal(before) {
		t.Errorf("after a byte the sandbox was active at %v, want still %v", now, before)
	}
	for range host.MaxPorts - 1 {
		b.dial(ref)
	}
	if _, err := b.client.DialPort(t.Context(), ref, 80, control.Passive); fault.ReasonOf(err) != "too_many_connections" {
		t.Errorf("one more than %d connections: %v, want too_many_connections", host.MaxPorts, err)
	}
	check(t, conn.Close())
}

func TestPortsAreLimited(t *testing.T) {
	t.Parallel()
	b := newPortBench(t)
	ref := b.create()
	first, _ := b.dial(ref)
	for range host.MaxPorts - 1 {
		b.dial(ref)
	}
	_, err := b.client.DialPort(t.Context(), ref, 80)
	if !fault.Is(err, fault.Quota) || fault.ReasonOf(err) != "too_many_connections" {
		t.Fatalf("one more than %d connections: %v, want too_many_connections", host.MaxPorts, err)
	}
	check(t, first.Close())
	for { // the agent notices the end by and by
		conn, err := b.client.DialPort(t.Context(), ref, 80)
		if err == nil {
			check(t, conn.Close())
			return
		}
		if !fault.Is(err, fault.Quota) {
			t.Fatal(err)
		}
	}
}

// TestPortOnLoopback: a program that listens on a loopback address alone is reached, and
// both directions end one by one. A pause aborts the connection.
func TestPortOnLoopback(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		b := newPortBench(t)
		l, err := net.Listen("tcp", address) // fake guests have the loopback device of this process
		if err != nil && strings.Contains(address, "::1") {
			continue // a machine without IPv6
		}
		check(t, err)
		defer l.Close()
		ref, port := b.create(), uint16(l.Addr().(*net.TCPAddr).Port)
		conn, err := b.client.DialPort(t.Context(), ref, port)
		check(t, err)
		program, err := l.Accept()
		check(t, err)
		_, err = conn.Write([]byte("question"))
		check(t, errors.Join(err, conn.CloseWrite()))
		if got, err := io.ReadAll(program); string(got) != "question" || err != nil {
			t.Errorf("%s: the program got %q, %v", address, got, err)
		}
		_, err = program.Write([]byte("answer"))
		check(t, errors.Join(err, program.Close()))
		if got, err := io.ReadAll(conn); string(got) != "answer" || err != nil {
			t.Errorf("%s: the client got %q, %v", address, got, err)
		}

		conn, err = b.client.DialPort(t.Context(), ref, port)
		check(t, err)
		program, err = l.Accept()
		check(t, err)
		_, err = b.Pause(t.Context(), ref)
		check(t, err)
		wantAborted(t, conn)
		check(t, program.SetReadDeadline(time.Now().Add(time.Minute)))
		// The channel of a fake guest is a unix socket, which cannot say that it was aborted.
		if _, err := io.ReadAll(program); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the program's connection outlived the pause", address)
		}
		check(t, l.Close())
		ref.Generation++
		_, err = b.Resume(t.Context(), ref)
		check(t, err)
		if _, err := b.client.DialPort(t.Context(), ref, port); fault.ReasonOf(err) != control.ReasonPortRefused {
			t.Errorf("%s: a port on which nothing listens any more: %v, want port_refused", address, err)
		}
	}
}
