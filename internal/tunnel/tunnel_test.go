package tunnel_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/wrenn-dev/wrenn/internal/tunnel"
)

// serve accepts tunnels on a unix socket and hands each to handle. It returns a
// function that connects to the socket.
func serve(t *testing.T, handle func(message []byte, c *tunnel.Conn)) func() net.Conn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		message, ok := tunnel.ReadRequest(r)
		if !ok || r.URL.Path != tunnel.Path || r.Header.Get("Authorization") != "Bearer secret" {
			http.Error(w, "refused", http.StatusTeapot)
			return
		}
		c, err := tunnel.Accept(w)
		if err != nil {
			t.Errorf("accept: %v", err)
			return
		}
		handle(message, c)
	}))
	srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	t.Cleanup(srv.Close)
	return func() net.Conn {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
}

var withToken = http.Header{"Authorization": {"Bearer secret"}}

// open returns both ends of a tunnel.
func open(t *testing.T) (client, server *tunnel.Conn) {
	t.Helper()
	accepted := make(chan *tunnel.Conn, 1)
	connect := serve(t, func(_ []byte, c *tunnel.Conn) { accepted <- c })
	client, err := tunnel.Dial(t.Context(), connect(), withToken, nil)
	if err != nil {
		t.Fatal(err)
	}
	server = <-accepted
	t.Cleanup(func() { _, _ = client.Close(), server.Close() })
	return client, server
}

func TestDial(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	connect := serve(t, func(message []byte, c *tunnel.Conn) {
		got <- string(message)
		_ = c.Close()
	})
	if _, err := tunnel.Dial(t.Context(), connect(), withToken, []byte("where")); err != nil {
		t.Fatal(err)
	}
	if m := <-got; m != "where" {
		t.Errorf("the message is %q", m)
	}
	var refusal *tunnel.Refusal
	if _, err := tunnel.Dial(t.Context(), connect(), nil, nil); !errors.As(err, &refusal) || refusal.Status != http.StatusTeapot || string(refusal.Body) != "refused\n" {
		t.Errorf("without a token: %v, want the refusal with status 418", err)
	}
	if _, err := tunnel.Dial(t.Context(), connect(), withToken, make([]byte, 8<<10)); !errors.As(err, &refusal) {
		t.Errorf("a message of 8 KiB: %v, want a refusal", err)
	}
	silent, _ := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tunnel.Dial(ctx, silent, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a peer that does not answer: %v, want canceled", err)
	}
}

// TestBytesCross sends pieces of sizes around every limit in both directions.
func TestBytesCross(t *testing.T) {
	t.Parallel()
	client, server := open(t)
	go func() {
		_, _ = io.Copy(server, server) // an error shows on the client's side
		_ = server.CloseWrite()
	}()
	var sent bytes.Buffer
	go func() {
		for _, size := range []int{1, 4095, 4096, 4097, 64 << 10, 64<<10 + 1, 1 << 20} {
			piece := make([]byte, size)
			_, _ = rand.Read(piece)
			sent.Write(piece)
			if n, err := client.Write(piece); n != size || err != nil {
				t.Errorf("write %d bytes: %d, %v", size, n, err)
			}
		}
		_ = client.CloseWrite()
	}()
	got, err := io.ReadAll(iotest.OneByteReader(io.LimitReader(client, 5000)))
	if err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(client)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(append(got, rest...), sent.Bytes()) {
		t.Error("the bytes differ")
	}
}

func TestHalfClose(t *testing.T) {
	t.Parallel()
	client, server := open(t)
	if err := errors.Join(client.CloseWrite(), client.CloseWrite()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after CloseWrite: %v", err)
	}
	if _, err := io.ReadAll(server); err != nil {
		t.Errorf("read to the end: %v", err)
	}
	if _, err := server.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read after the end: %v, want EOF again", err)
	}
	_, err := server.Write([]byte("still here"))
	if err := errors.Join(err, server.CloseWrite()); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(client); string(got) != "still here" || err != nil {
		t.Errorf("the other direction: %q, %v", got, err)
	}
}

func TestAbortIsNoEnd(t *testing.T) {
	t.Parallel()
	client, server := open(t)
	if _, err := server.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	_ = server.Close()
	if got, err := io.ReadAll(client); string(got) != "half" || err == nil {
		t.Errorf("after an abort: %q, %v; want the bytes and an error", got, err)
	}
}

func TestFrameTooLong(t *testing.T) {
	t.Parallel()
	client, server := open(t)
	if _, err := server.Conn.Write([]byte{0, 1, 0, 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a frame of 65537 bytes: %v, want an error", err)
	}
}

// TestReadAfterDeadline: a deadline in the middle of a header loses nothing.
func TestReadAfterDeadline(t *testing.T) {
	t.Parallel()
	client, server := open(t)
	if _, err := server.Conn.Write([]byte{0, 0}); err != nil {
		t.Fatal(err)
	}
	_ = client.SetReadDeadline(time.Unix(1, 0))
	var timeout net.Error
	if _, err := client.Read(make([]byte, 9)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("read past the deadline: %v", err)
	}
	_ = client.SetReadDeadline(time.Time{})
	if _, err := server.Conn.Write([]byte{0, 2, 'o', 'k'}); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 2)
	if _, err := io.ReadFull(client, got); string(got) != "ok" || err != nil {
		t.Errorf("read after the deadline: %q, %v", got, err)
	}
}

// tcpPair returns both ends of a TCP connection.
func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = dialled.Close(), accepted.Close() })
	return dialled.(*net.TCPConn), accepted.(*net.TCPConn)
}

func TestCarry(t *testing.T) {
	t.Parallel()
	client, server := open(t)
	inner, guest := tcpPair(t)
	var moves atomic.Int64
	done := make(chan error, 1)
	go func() { done <- tunnel.Carry(t.Context(), server, inner, func() { moves.Add(1) }) }()
	if _, err := client.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	_ = client.CloseWrite()
	if got, err := io.ReadAll(guest); string(got) != "ping" || err != nil {
		t.Errorf("the guest got %q, %v", got, err)
	}
	_, _ = guest.Write([]byte("pong"))
	_ = guest.Close()
	if got, err := io.ReadAll(client); string(got) != "pong" || err != nil {
		t.Errorf("the client got %q, %v", got, err)
	}
	if err := <-done; err != nil || moves.Load() == 0 {
		t.Errorf("Carry: %v after %d moves, want a clean end after some", err, moves.Load())
	}
}

// TestCarryAborts: whichever side breaks, the other one sees no clean end.
func TestCarryAborts(t *testing.T) {
	t.Parallel()
	why := errors.New("the sandbox has ended")
	for name, abort := range map[string]func(cancel context.CancelCauseFunc, client *tunnel.Conn, guest *net.TCPConn){
		"the sandbox goes": func(cancel context.CancelCauseFunc, _ *tunnel.Conn, _ *net.TCPConn) { cancel(why) },
		"the guest resets": func(_ context.CancelCauseFunc, _ *tunnel.Conn, guest *net.TCPConn) { tunnel.Abort(guest) },
		"the client goes":  func(_ context.CancelCauseFunc, client *tunnel.Conn, _ *net.TCPConn) { _ = client.Close() },
	} {
		client, server := open(t)
		inner, guest := tcpPair(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- tunnel.Carry(ctx, server, inner, func() {}) }()
		abort(cancel, client, guest)
		if err := <-done; err == nil || name == "the sandbox goes" && !errors.Is(err, why) {
			t.Errorf("%s: Carry returned %v", name, err)
		}
		if _, err := client.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("%s: the client read %v, want an error that is no end", name, err)
		}
		if _, err := guest.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("%s: the guest read %v, want an error that is no end", name, err)
		}
		cancel(nil)
	}
}
