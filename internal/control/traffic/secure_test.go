package traffic_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
)

// securePort is the port whose program speaks TLS.
const securePort = "8443"

// newSecureWorld returns a world whose program is served with TLS on port 8443.
func newSecureWorld(t *testing.T, program http.Handler, options ...option) *world {
	t.Helper()
	w := newWorld(t, nil, options...)
	srv := httptest.NewTLSServer(program)
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	w.fake.programs[8443] = srv.Listener.Addr().String()
	w.fake.programs[3000] = w.fake.programs[8443]
	w.fake.set(func(row *control.Sandbox) { row.Spec.HTTPSPorts = []int{8443} })
	return w
}

// TestProgramWithTLS: the edge speaks TLS with a program on such a port, at every form of
// its address and over both versions of HTTP.
func TestProgramWithTLS(t *testing.T) {
	t.Parallel()
	program := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s by %s: %s (%v)", r.TLS.ServerName, r.Proto, r.Host, body, err)
	})
	check := func(t *testing.T, w *world) {
		name := w.port(securePort)
		token := "X-Wrenn-Traffic-Token: " + w.token
		body := strings.Repeat("large ", 50_000)
		for _, c := range []struct{ host, path string }{
			{name, "/"}, {"api.test", "/v1/sandboxes/" + string(box) + "/ports/8443/"},
		} {
			w.want(w.do(w.request("POST", c.host, c.path, strings.NewReader(body), token)), http.StatusOK,
				name+" HTTP/1.1 by "+c.host+": "+body+" (<nil>)")
		}
		// A port that is not named so gets no TLS.
		w.want(w.get("/"), http.StatusBadRequest, "HTTP request to an HTTPS server")
		w.want(w.do(w.request("GET", name, "/", nil)), http.StatusForbidden)
	}
	t.Run("HTTP/1.1", func(t *testing.T) { t.Parallel(); check(t, newSecureWorld(t, program)) })
	t.Run("HTTP/2", func(t *testing.T) { t.Parallel(); check(t, newSecureWorld(t, program, withTLS)) })
	t.Run("h2c", func(t *testing.T) {
		t.Parallel()
		w := newSecureWorld(t, program, withH2C)
		transport := w.client.Transport.(*http.Transport)
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
		check(t, w)
	})
}

// TestWebSocketWithTLS: upgraded connections pass too, and are cut with the sandbox.
func TestWebSocketWithTLS(t *testing.T) {
	t.Parallel()
	w := newSecureWorld(t, http.HandlerFunc(shout))
	conn, in, res := w.upgrade("GET /ws HTTP/1.1\nHost: " + w.port(securePort) +
		"\nConnection: Upgrade\nUpgrade: websocket\nX-Wrenn-Traffic-Token: " + w.token)
	if res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%d %v", res.StatusCode, res.Header)
	}
	w.wantEcho(conn, in)
	w.fake.end()
	w.wantCut(in)
}

// TestRawConnectionHasNoTLS: a raw connection has the bytes of the program, so that its
// client can speak TLS with the program itself.
func TestRawConnectionHasNoTLS(t *testing.T) {
	t.Parallel()
	w := newSecureWorld(t, http.HandlerFunc(mirror))
	conn, _, res := w.upgrade("CONNECT " + w.port(securePort) + ":8443 HTTP/1.1\nHost: " + w.port(securePort) +
		":8443\nX-Wrenn-Traffic-Token: " + w.token)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%d %v", res.StatusCode, res.Header)
	}
	inner := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	if err := inner.HandshakeContext(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestBrokenTLS: bytes that a program sends in place of a handshake are refused, and an answer that
// breaks off is aborted.
func TestBrokenTLS(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"HTTP": "HTTP/1.1 200 OK\r\n\r\n", "nothing": "", "a large record": "\x16\x03\x03\xff\xff" + strings.Repeat("x", 1<<20),
		"endless handshake": "\x16\x03\x03\x40\x00\x0b\xff\xff\xff" + strings.Repeat("x", 1<<20),
	} {
		w := newSecureWorld(t, nil)
		w.accept(func(conn net.Conn) {
			_, _ = io.ReadFull(conn, make([]byte, 64))
			_, _ = io.WriteString(conn, answer)
		})
		a := w.do(w.request("GET", w.port(securePort), "/", nil, "X-Wrenn-Traffic-Token: "+w.token))
		if a.StatusCode != http.StatusBadGateway || !strings.Contains(a.body, "gave no answer in HTTP over TLS") {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
	}
	w := newSecureWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "some")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	res, err := w.client.Do(w.request("GET", w.port(securePort), "/", nil, "X-Wrenn-Traffic-Token: "+w.token))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.ReadFull(res.Body, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	w.fake.end()
	if rest, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("the answer ended cleanly after %q, want an abort", rest)
	}
}

// accept serves connections to port 8443 with f.
func (w *world) accept(f func(conn net.Conn)) {
	w.Helper()
	w.program(8443, func(conn net.Conn) {
		f(conn)
		_ = conn.Close()
	})
}
