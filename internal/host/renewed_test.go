package host

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/host/instance"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// serveRenewed returns a client of a guest in which answer serves every connection.
func serveRenewed(t *testing.T, answer func(*http.Request, net.Conn)) *guestclient.Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				answer(r, conn)
			}
			_ = conn.Close()
		}
	}()
	guest := guestclient.New(func(ctx context.Context, _ uint16) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", listener.Addr().String())
	})
	t.Cleanup(func() {
		guest.Close()
		_ = listener.Close()
		<-done
	})
	return guest
}

// write returns an answer that consists of parts, of which the last is repeated without end.
func write(parts ...string) func(*http.Request, net.Conn) {
	return func(_ *http.Request, conn net.Conn) {
		for _, p := range parts[:len(parts)-1] {
			if _, err := io.WriteString(conn, p); err != nil {
				return
			}
		}
		for last := parts[len(parts)-1]; last != ""; {
			if _, err := io.WriteString(conn, last); err != nil {
				return
			}
		}
	}
}

// untilClosed returns when the other side has closed conn.
func untilClosed(_ *http.Request, conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

func TestAskRenewed(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(*http.Request, net.Conn)
		ok     bool
		limit  time.Duration // 0 is long
		is     error         // or any
	}{
		"renewed":              {answer: write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\"OK\"", ""), ok: true},
		"an endless body":      {answer: write("HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("x", 1000)), ok: true},
		"an endless head":      {answer: write("HTTP/1.1 200 OK\r\n", "A: "+strings.Repeat("x", 1000)+"\r\n")},
		"an endless line":      {answer: write(strings.Repeat("x", 1000))},
		"no HTTP":              {answer: write("SSH-2.0\r\n", "")},
		"hangs up":             {answer: write("")},
		"another status":       {answer: write("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "")},
		"a status without end": {answer: write("HTTP/1.1 100 Continue\r\n\r\n")},
		"no answer":            {answer: untilClosed, limit: time.Millisecond, is: os.ErrDeadlineExceeded},
		"half an answer": {limit: time.Millisecond, is: os.ErrDeadlineExceeded, answer: func(r *http.Request, conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nA: ")
			untilClosed(r, conn)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var path string
			guest := serveRenewed(t, func(r *http.Request, conn net.Conn) {
				path = r.Method + " " + r.URL.Path
				c.answer(r, conn)
			})
			ctx := t.Context()
			if c.limit != 0 {
				limited, cancel := context.WithCancel(ctx)
				defer cancel()
				// The request arrives before the end of the time.
				inner := c.answer
				c.answer = func(r *http.Request, conn net.Conn) {
					time.AfterFunc(c.limit, cancel)
					inner(r, conn)
				}
				ctx = limited
			}
			err := askRenewed(ctx, guest, 80, "/renewed")
			guest.Close()
			if (err == nil) != c.ok || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got %v, want success: %v, error: %v", err, c.ok, c.is)
			}
			if path != "GET /renewed" {
				t.Errorf("the guest got %q", path)
			}
		})
	}
}

// TestAwaitRenewed: a guest that refuses the connection, or never answers, ends the wait,
// and a template without a check is not asked.
func TestAwaitRenewed(t *testing.T) {
	check := image.Start{RenewedPort: 80, RenewedPath: "/"}
	for name, c := range map[string]struct {
		start image.Start
		dial  func(context.Context, uint16) (net.Conn, error)
		asked bool
	}{
		"refused": {start: check, asked: true, dial: func(context.Context, uint16) (net.Conn, error) { return nil, errors.New("refused") }},
		"never connects": {start: check, asked: true, dial: func(ctx context.Context, _ uint16) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}},
		"never reads": {start: check, asked: true, dial: func(context.Context, uint16) (net.Conn, error) {
			conn, _ := net.Pipe()
			return conn, nil
		}},
		"nothing to wait for": {start: image.Start{Command: "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			asked := false
			guest := guestclient.New(func(ctx context.Context, port uint16) (net.Conn, error) {
				asked = true
				return c.dial(ctx, port)
			})
			defer guest.Close()
			b := body{log: slog.New(slog.DiscardHandler), Instance: new(instance.Instance)}
			b.rec.RestoreReport = &sandbox.RestoreReport{Steps: make(map[string]time.Duration)}
			b.SetGuest(guest)
			b.awaitRenewed(t.Context(), c.start, time.Millisecond)
			if _, noted := b.rec.RestoreReport.Steps["template_programs"]; asked != c.asked || noted != c.asked {
				t.Errorf("asked: %v, noted: %v, want %v", asked, noted, c.asked)
			}
		})
	}
}
