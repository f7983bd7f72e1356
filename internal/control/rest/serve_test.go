package rest

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// pipeListener is a listener in memory, so that time can be the test's own.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// dial connects, and fails when the listener is closed.
func (l *pipeListener) dial() (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// served is a server under Serve with one exec under way.
type served struct {
	l      *pipeListener
	stop   context.CancelFunc
	done   chan error  // Serve's result
	answer chan string // of the exec, read to the end
}

// serveExec starts a server and an exec in it, which does run.
func serveExec(t *testing.T, run func(ctx context.Context) error) *served {
	t.Helper()
	fake := newFake()
	id := fake.add(sandbox.Running)
	started := make(chan bool)
	fake.exec = func(ctx context.Context, _ control.Exec, _ control.ExecSink) (control.ExecResult, error) {
		close(started)
		return control.ExecResult{}, run(ctx)
	}
	h, err := New(Config{Sandboxes: fake, Access: OpenOnLoopback(), Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	s := &served{l: newPipeListener(), stop: stop, done: make(chan error, 1), answer: make(chan string, 1)}
	go func() { s.done <- Serve(ctx, s.l, h, discard()) }()
	go func() {
		conn, err := s.l.dial()
		if err != nil {
			s.answer <- err.Error()
			return
		}
		defer conn.Close()
		body := `{"cmd":"x"}`
		_, _ = io.WriteString(conn, "POST /v1/sandboxes/"+string(id)+"/exec HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11\r\n\r\n"+body)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			s.answer <- err.Error()
			return
		}
		text, _ := io.ReadAll(resp.Body)
		s.answer <- resp.Status + " " + string(text)
	}()
	<-started
	return s
}

// TestServeEndsReadersOfProcesses: an attached reader does not hold up a stop. Its last
// event says why it ends.
func TestServeEndsReadersOfProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		id := fake.add(sandbox.Running)
		attached := make(chan bool)
		fake.attachWait = func(ctx context.Context) error { close(attached); <-ctx.Done(); return ctx.Err() }
		if _, err := fake.CallProcess(t.Context(), id, control.ProcessStart{ID: "p"}); err != nil {
			t.Fatal(err)
		}
		h, err := New(Config{Sandboxes: fake, Access: OpenOnLoopback(), Log: discard()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		l, done, answer := newPipeListener(), make(chan error, 1), make(chan string, 1)
		go func() { done <- Serve(ctx, l, h, discard()) }()
		go func() {
			conn, err := l.dial()
			if err != nil {
				answer <- err.Error()
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "GET /v1/sandboxes/"+string(id)+"/processes/p/attach HTTP/1.1\r\nHost: localhost\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				answer <- err.Error()
				return
			}
			text, _ := io.ReadAll(resp.Body)
			answer <- string(text)
		}()
		<-attached
		begin := time.Now()
		stop()
		if got := <-answer; !strings.Contains(got, "event: error\ndata: ") || !strings.Contains(got, `"code":"shutting_down"`) {
			t.Errorf("the reader got %q, want an error event with shutting_down", got)
		}
		if err := <-done; err != nil || time.Since(begin) >= drainTimeout {
			t.Errorf("Serve returned %v after %s, want nil before %s", err, time.Since(begin), drainTimeout)
		}
	})
}

func TestServeDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveExec(t, func(ctx context.Context) error {
			select {
			case <-time.After(drainTimeout - time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		begin := time.Now()
		s.stop()
		if got := <-s.answer; !strings.HasPrefix(got, "200 ") {
			t.Errorf("an exec that ends in time is answered %q", got)
		}
		if err := <-s.done; err != nil {
			t.Errorf("Serve returned %v", err)
		}
		if took := time.Since(begin); took >= drainTimeout {
			t.Errorf("it took %s", took)
		}
		if _, err := s.l.dial(); err == nil {
			t.Error("the listener is still open")
		}
	})
}

func TestServeCancelsWhatDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveExec(t, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		begin := time.Now()
		s.stop()
		if got := <-s.answer; !strings.HasPrefix(got, "503 ") || !strings.Contains(got, `"shutting_down"`) {
			t.Errorf("an exec that was cut is answered %q", got)
		}
		if err := <-s.done; err != nil {
			t.Errorf("Serve returned %v", err)
		}
		if took := time.Since(begin); took < drainTimeout || took > drainTimeout+abortTimeout {
			t.Errorf("it took %s", took)
		}
	})
}

func TestServeLeavesWhatDoesNotListen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan bool)
		s := serveExec(t, func(context.Context) error {
			<-release
			return nil
		})
		begin := time.Now()
		s.stop()
		if err := <-s.done; err != nil {
			t.Errorf("Serve returned %v", err)
		}
		if took := time.Since(begin); took != drainTimeout+abortTimeout {
			t.Errorf("it took %s", took)
		}
		close(release)
		<-s.answer
	})
}

type brokenListener struct{ *pipeListener }

var errBroken = errors.New("the listener broke")

func (brokenListener) Accept() (net.Conn, error) { return nil, errBroken }

func TestServeReportsABrokenListener(t *testing.T) {
	err := Serve(t.Context(), brokenListener{newPipeListener()}, http.NotFoundHandler(), discard())
	if !errors.Is(err, errBroken) {
		t.Errorf("Serve returned %v", err)
	}
}
