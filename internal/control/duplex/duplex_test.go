package duplex_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control/duplex"
)

// lines collects the log of a server.
type lines struct {
	mu   sync.Mutex // protects the following
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// serve starts a server whose requests handler answers within an exchange that lingers. It
// returns a connection, its reader, and the log.
func serve(t *testing.T, linger time.Duration, handler http.HandlerFunc) (net.Conn, *bufio.Reader, *lines) {
	t.Helper()
	logged := &lines{}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x, w, r := duplex.Begin(w, r)
		aborted := true
		defer func() { x.End(linger, aborted) }()
		handler(w, r)
		aborted = false
	}))
	srv.Config.ErrorLog = log.New(logged, "", 0)
	srv.Start()
	t.Cleanup(srv.Close)
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	// The deadline of the whole test, so that none of them hangs.
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn, bufio.NewReader(conn), logged
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

// receive reads one answer and returns its body.
func receive(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("reading an answer: %v", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("an answer ends in %q: %v", body, err)
	}
	return string(body)
}

const (
	withLength = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
	chunked    = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
)

// known answers with a length and leaves the body of the request unread.
func known(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "6")
	_, _ = io.WriteString(w, "answer")
}

// TestConnectionIsKept: after an answer that left a body unread, the same connection serves
// another request. Without End, net/http panics then (golang/go#68560).
func TestConnectionIsKept(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]string{"length": withLength, "chunked": chunked} {
		conn, r, logged := serve(t, time.Minute, known)
		for i := range 3 {
			send(t, conn, request)
			if got := receive(t, r); got != "answer" {
				t.Fatalf("%s: answer %d is %q", name, i, got)
			}
		}
		if logged.String() != "" {
			t.Errorf("%s: the server logged %s", name, logged)
		}
	}
}

// TestRestMayComeLate: an answer with a length reaches the client before the body's end, and
// the connection waits for that.
func TestRestMayComeLate(t *testing.T) {
	t.Parallel()
	conn, r, _ := serve(t, time.Minute, known)
	for range 2 {
		send(t, conn, strings.TrimSuffix(withLength, "dy"))
		if got := receive(t, r); got != "answer" {
			t.Fatalf("the answer is %q", got)
		}
		send(t, conn, "dy")
	}
}

// TestAnswerEndsBeforeTheBody: the end of an answer without a length does not wait for the
// body, which never ends here, and the connection is closed then.
func TestAnswerEndsBeforeTheBody(t *testing.T) {
	t.Parallel()
	conn, r, logged := serve(t, time.Minute, func(w http.ResponseWriter, r *http.Request) {
		go func() { _, _ = io.Copy(io.Discard, r.Body) }() // as net/http's transport
		_, _ = io.WriteString(w, "part")
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "end")
	})
	send(t, conn, strings.TrimSuffix(chunked, "0\r\n\r\n"))
	if got := receive(t, r); got != "partend" {
		t.Errorf("the answer is %q", got)
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after the answer: %v, want the end of the connection", err)
	}
	if logged.String() != "" {
		t.Errorf("the server logged %s", logged)
	}
}

// TestLargeRestIsLeft: a rest above the bound ends the connection and not the answer.
func TestLargeRestIsLeft(t *testing.T) {
	t.Parallel()
	conn, r, _ := serve(t, time.Minute, known)
	send(t, conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
	go func() {
		piece := make([]byte, 64<<10)
		for {
			if _, err := conn.Write(piece); err != nil {
				return
			}
		}
	}()
	if got := receive(t, r); got != "answer" {
		t.Errorf("the answer is %q", got)
	}
	// The end, or a reset, comes after the time that net/http leaves the client for the answer.
	if _, err := io.Copy(io.Discard, r); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open:", err)
	}
}

// TestAnswerReachesASender: a client that sends for a while after the answer reads all of it.
func TestAnswerReachesASender(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("output ", 40_000)
	conn, r, _ := serve(t, 0, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 4))
		_, _ = io.WriteString(w, large)
	})
	send(t, conn, strings.TrimSuffix(chunked, "0\r\n\r\n"))
	if _, err := r.Peek(1); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		send(t, conn, fmt.Sprintf("3e8\r\n%s\r\n", strings.Repeat("x", 1000)))
		time.Sleep(5 * time.Millisecond) // lets a reset arrive between two pieces
	}
	if got := receive(t, r); got != large {
		t.Errorf("%d bytes arrived, want %d", len(got), len(large))
	}
}

// TestAbortClosesTheConnection: an aborted answer does not wait for a body that goes on.
func TestAbortClosesTheConnection(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]string{
		"length":  "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nbody",
		"chunked": strings.TrimSuffix(chunked, "0\r\n\r\n"),
	} {
		conn, r, _ := serve(t, time.Minute, func(w http.ResponseWriter, r *http.Request) {
			go func() { _, _ = io.Copy(io.Discard, r.Body) }()
			_, _ = io.WriteString(w, "part")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
		send(t, conn, request)
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if string(body) != "part" || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %q, %v; want an aborted answer", name, body, err)
		}
	}
}

// TestTakenOverConnection: End leaves a connection alone that the handler has hijacked.
func TestTakenOverConnection(t *testing.T) {
	t.Parallel()
	conn, r, logged := serve(t, time.Minute, func(w http.ResponseWriter, _ *http.Request) {
		c, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, buffered)
		}()
	})
	send(t, conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
	send(t, conn, "ping")
	got := make([]byte, 4)
	if _, err := io.ReadFull(r, got); err != nil || string(got) != "ping" {
		t.Errorf("%q, %v; want an echo", got, err)
	}
	if logged.String() != "" {
		t.Errorf("the server logged %s", logged)
	}
}
