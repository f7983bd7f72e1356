package traffic_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// variants run f over HTTP/1.1 in clear text and over HTTP/2 with TLS.
func variants(t *testing.T, program http.Handler, f func(t *testing.T, w *world)) {
	t.Run("HTTP/1.1", func(t *testing.T) { t.Parallel(); f(t, newWorld(t, program)) })
	t.Run("HTTP/2", func(t *testing.T) { t.Parallel(); f(t, newWorld(t, program, withTLS)) })
}

func (w *world) port(port string) string { return port + "-" + string(box) + ".box.test" }

// open sends a request whose body is the other end of the pipe that it returns.
func (w *world) open(method string, length int64) (*io.PipeWriter, <-chan *http.Response) {
	w.Helper()
	body, feed := io.Pipe()
	r := w.request(method, w.port(boxPort), "/", body, "X-Wrenn-Traffic-Token: "+w.token)
	r.ContentLength = length
	responses := make(chan *http.Response, 1)
	go func() {
		res, err := w.client.Do(r)
		if err != nil {
			w.Errorf("%s: %v", method, err)
			close(responses)
			return
		}
		responses <- res
	}()
	return feed, responses
}

// TestBytesAreNotHeldBack: each byte of a body arrives before the next is sent, in both
// directions at once.
func TestBytesAreNotHeldBack(t *testing.T) {
	t.Parallel()
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		_ = rc.Flush()
		buf := make([]byte, 16)
		for {
			n, err := r.Body.Read(buf)
			_, _ = w.Write(buf[:n])
			_ = rc.Flush()
			if err != nil {
				return
			}
		}
	})
	variants(t, echo, func(t *testing.T, w *world) {
		for _, length := range []int64{-1, 3} {
			feed, responses := w.open("POST", length)
			res := <-responses
			if res == nil {
				t.Fatal("no answer before the body")
			}
			for _, b := range []byte("ab") {
				if _, err := feed.Write([]byte{b}); err != nil {
					t.Fatal(err)
				}
				var got [1]byte
				if _, err := io.ReadFull(res.Body, got[:]); err != nil || got[0] != b {
					t.Fatalf("length %d: %q, %v; want %q back at once", length, got, err, b)
				}
			}
			if _, err := feed.Write([]byte("c")); err != nil { // the client sends the last byte with the end
				t.Fatal(err)
			}
			_ = feed.Close()
			if rest, err := io.ReadAll(res.Body); string(rest) != "c" || err != nil {
				t.Errorf("the end is %q, %v", rest, err)
			}
			_ = res.Body.Close()
		}
	})
}

// TestBrokenAnswerIsAborted: when the sandbox goes, an answer under way does not end
// cleanly, and the next request is told that the sandbox was not found.
func TestBrokenAnswerIsAborted(t *testing.T) {
	t.Parallel()
	for name, length := range map[string]string{"length": "100", "chunked": ""} {
		program := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			_, _ = io.WriteString(w, "some")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			variants(t, program, func(t *testing.T, w *world) {
				res, err := w.client.Do(w.request("GET", w.port(boxPort), "/", nil, "X-Wrenn-Traffic-Token: "+w.token))
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
				w.want(w.get("/"), http.StatusBadGateway, "was not found")
			})
		})
	}
}

// TestAnswerOfUnknownLength: an answer that ends with its connection, as those of
// HTTP/1.0, is whole if the connection ended cleanly.
func TestAnswerOfUnknownLength(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.raw(func(conn net.Conn) { _, _ = io.WriteString(conn, "HTTP/1.0 200 OK\r\n\r\nwhole") })
	if a := w.want(w.get("/"), http.StatusOK); a.body != "whole" || a.err != nil {
		t.Errorf("%q, %v", a.body, a.err)
	}
}

func TestTrailers(t *testing.T) {
	t.Parallel()
	program := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "Sum")
		_, _ = io.WriteString(w, "body")
		_ = http.NewResponseController(w).Flush()
		w.Header().Set("Sum", "4 and "+r.Trailer.Get("Of"))
	})
	variants(t, program, func(t *testing.T, w *world) {
		r := w.request("POST", w.port(boxPort), "/", io.NopCloser(strings.NewReader("x")), "X-Wrenn-Traffic-Token: "+w.token)
		r.ContentLength, r.Trailer = -1, http.Header{"Of": {"request"}}
		if a := w.want(w.do(r), http.StatusOK); a.Trailer.Get("Sum") != "4 and request" {
			t.Errorf("the trailers are %v", a.Trailer)
		}
	})
}

// TestLargeBodies sends 100 MB each way through a server that has no room for them.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	const size = 100_000_000
	program := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if n != size || err != nil {
			http.Error(w, fmt.Sprint(n, err), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = io.CopyN(w, zeros{}, size)
	})
	variants(t, program, func(t *testing.T, w *world) {
		r := w.request("PUT", w.port(boxPort), "/", io.LimitReader(zeros{}, size), "X-Wrenn-Traffic-Token: "+w.token)
		r.ContentLength = size
		res, err := w.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		n, err := io.Copy(io.Discard, res.Body)
		if res.StatusCode != http.StatusOK || n != size || err != nil {
			t.Errorf("%d after %d bytes, %v", res.StatusCode, n, err)
		}
	})
}

// TestBodiesPassInLargePieces: a large body takes pieces larger than the 32 KiB of
// net/http on its way to the program, with a known length and without one.
func TestBodiesPassInLargePieces(t *testing.T) {
	t.Parallel()
	const size = 32 << 20
	for _, length := range []int64{size, -1} {
		body := wideBody(size)
		w := newWorld(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if n, err := io.Copy(io.Discard, r.Body); n != size || err != nil || r.ContentLength != length {
				t.Errorf("the program got %d bytes, %v, with the length %d; want %d with %d", n, err, r.ContentLength, size, length)
			}
		}))
		r := w.request("PUT", w.port(boxPort), "/", &body, "X-Wrenn-Traffic-Token: "+w.token)
		r.ContentLength = length
		if res := w.do(r); res.StatusCode != http.StatusOK {
			t.Errorf("status %d", res.StatusCode)
		}
		if got := w.fake.largest.Load(); got <= 48<<10 { // a chunk of 32 KiB has some bytes more
			t.Errorf("length %d: the largest piece has %d bytes", length, got)
		}
	}
}

// wideBody has so many bytes left. A client that does not know their number sends large
// chunks.
type wideBody int

// Read implements io.Reader.
func (b *wideBody) Read(p []byte) (int, error) {
	if *b == 0 {
		return 0, io.EOF
	}
	n := min(len(p), int(*b))
	clear(p[:n])
	*b -= wideBody(n)
	return n, nil
}

// WriteTo implements io.WriterTo.
func (b *wideBody) WriteTo(w io.Writer) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{b}, make([]byte, 128<<10))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// raw serves connections to port 3000 with f, which gets the connection after the head
// of a request.
func (w *world) raw(f func(conn net.Conn)) {
	w.Helper()
	w.program(3000, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			f(conn)
		}
		_ = conn.Close()
	})
}

// program makes a program listen on a port of the sandbox. It serves one connection after the
// other with f, which closes them.
func (w *world) program(port uint16, f func(conn net.Conn)) {
	w.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f(conn)
		}
	}()
	w.Cleanup(func() { _ = l.Close(); <-served })
	w.fake.mu.Lock()
	defer w.fake.mu.Unlock()
	w.fake.programs[port] = l.Addr().String()
}

func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	line := "X-Filler: " + strings.Repeat("x", 1000) + "\r\n"
	for name, answer := range map[string]string{
		"no HTTP":            "SSH-2.0-OpenSSH_9.2\r\n",
		"nothing":            "",
		"half a status line": "HTTP/1.1 2",
		"an endless header":  "HTTP/1.1 200 OK\r\n" + strings.Repeat(line, 1000),
		"a long line":        "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20),
		"a huge header":      "HTTP/1.1 200 OK\r\n" + strings.Repeat(line, 100) + "\r\nbody",
		"invalid length":     "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nbody",
		"two lengths":        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"a header with NUL":  "HTTP/1.1 200 OK\r\nX: \x00\r\n\r\n",
		"a flood of 103":     strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 10_000),
		"an upgrade unasked": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nbytes",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.raw(func(conn net.Conn) { _, _ = io.WriteString(conn, answer) })
			w.want(w.get("/"), http.StatusBadGateway, "gave no answer in HTTP", `"invalid_answer"`)
		})
	}
}

// upgrade sends a request with an upgrade and returns the connection after its answer.
func (w *world) upgrade(head string) (net.Conn, *bufio.Reader, *http.Response) {
	w.Helper()
	conn, err := net.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(conn, strings.ReplaceAll(head, "\n", "\r\n")+"\r\n\r\n"); err != nil {
		w.Fatal(err)
	}
	in := bufio.NewReader(conn)
	method, _, _ := strings.Cut(head, " ")
	res, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		w.Fatal(err)
	}
	return conn, in, res
}

// shout is a program that answers each byte with its upper case, after an upgrade.
func shout(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "websocket" {
		http.Error(w, "no upgrade", http.StatusBadRequest)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: k\r\n\r\n")
	shoutBack(conn, buffered)
}

func shoutBack(conn net.Conn, in io.Reader) {
	buf := make([]byte, 64)
	for {
		n, err := in.Read(buf)
		if err != nil {
			return
		}
		if _, err := conn.Write(bytes.ToUpper(buf[:n])); err != nil {
			return
		}
	}
}

func (w *world) wantEcho(conn net.Conn, in io.Reader) {
	w.Helper()
	for _, word := range []string{"hello", "again"} {
		if _, err := io.WriteString(conn, word); err != nil {
			w.Fatal(err)
		}
		got := make([]byte, len(word))
		if _, err := io.ReadFull(in, got); err != nil || string(got) != strings.ToUpper(word) {
			w.Fatalf("%q came back as %q, %v", word, got, err)
		}
	}
}

// wantCut fails the test unless the connection breaks or ends.
func (w *world) wantCut(in io.Reader) {
	w.Helper()
	var slow net.Error
	if _, err := in.Read(make([]byte, 1)); err == nil || errors.As(err, &slow) && slow.Timeout() {
		w.Errorf("after the end of the sandbox: %v, want a cut", err)
	}
}

func TestWebSocket(t *testing.T) {
	t.Parallel()
	w := newWorld(t, http.HandlerFunc(shout))
	for _, c := range []string{
		"GET /ws HTTP/1.1\nHost: " + w.port(boxPort),
		"GET /v1/sandboxes/" + string(box) + "/ports/3000/ws HTTP/1.1\nHost: x.test",
	} {
		conn, in, res := w.upgrade(c + "\nConnection: Upgrade\nUpgrade: websocket\nX-Wrenn-Traffic-Token: " + w.token)
		if res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Sec-WebSocket-Accept") != "k" {
			t.Fatalf("%d %v", res.StatusCode, res.Header)
		}
		w.wantEcho(conn, in)
		defer w.wantCut(in)
	}
	w.fake.end()
}

// TestNoUpgradeWithABody: a program cannot change protocols while the body of the request still
// comes. The client's next bytes would then pass for the framing of that body.
func TestNoUpgradeWithABody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.raw(func(conn net.Conn) {
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	})
	for _, framing := range []string{"Transfer-Encoding: chunked", "Content-Length: 1000000"} {
		for _, method := range []string{"GET", "POST"} {
			_, _, res := w.upgrade(method + " /ws HTTP/1.1\nHost: " + w.port(boxPort) +
				"\nConnection: Upgrade\nUpgrade: websocket\nX-Wrenn-Traffic-Token: " + w.token + "\n" + framing)
			if res.StatusCode != http.StatusBadGateway {
				t.Errorf("%s with %s: status %d, want 502", method, framing, res.StatusCode)
			}
		}
	}
}

// bytesProgram makes port 3000 a program that speaks no HTTP.
func (w *world) bytesProgram() {
	w.Helper()
	w.program(3000, func(conn net.Conn) {
		go func() {
			shoutBack(conn, conn)
			_, _ = io.WriteString(conn, "bye")
			_ = conn.Close()
		}()
	})
}

func TestRawConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.bytesProgram()
	byPath := "POST /v1/sandboxes/" + string(box) + "/ports/3000 HTTP/1.1\nHost: x.test\nConnection: Upgrade\nUpgrade: tcp\nAuthorization: Bearer " + apiKey
	for head, status := range map[string]int{
		"CONNECT " + w.port(boxPort) + ":3000 HTTP/1.1\nHost: " + w.port(boxPort) + "\nX-Wrenn-Traffic-Token: " + w.token: 200,
		byPath: 101,
		"CONNECT x.test:80 HTTP/1.1\nHost: x.test\nE2b-Sandbox-Id: " + string(box) + "\nE2b-Sandbox-Port: 3000\nProxy-Authorization: Bearer " + w.token: 200,
	} {
		conn, in, res := w.upgrade(head)
		if res.StatusCode != status {
			t.Fatalf("%s: %d, want %d", head, res.StatusCode, status)
		}
		w.wantEcho(conn, in)
		// Half a close reaches the program, and its last bytes come back.
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(in); string(rest) != "bye" || err != nil {
			t.Errorf("%s: the end is %q, %v", head, rest, err)
		}
	}
	for head, status := range map[string]int{
		"CONNECT " + w.port(boxPort) + ":3000 HTTP/1.1\nHost: " + w.port(boxPort):                                      403,
		"CONNECT " + w.port("3001") + ":1 HTTP/1.1\nHost: " + w.port("3001") + "\nX-Wrenn-Traffic-Token: " + w.token:   502,
		"POST /v1/sandboxes/" + string(box) + "/ports/3000 HTTP/1.1\nHost: x\nConnection: Upgrade\nUpgrade: tcp":       403,
		"CONNECT 3000-nosuchbox.box.test:1 HTTP/1.1\nHost: 3000-nosuchbox.box.test\nX-Wrenn-Traffic-Token: " + w.token: 502,
		strings.Replace(byPath, "/ports/3000", "/ports/99999", 1):                                                      400,
	} {
		if _, _, res := w.upgrade(head); res.StatusCode != status {
			t.Errorf("%s: %d, want %d", head, res.StatusCode, status)
		}
	}
	conn, in, _ := w.upgrade(byPath)
	w.wantEcho(conn, in)
	w.fake.end()
	var broken *net.OpError
	if _, err := in.Read(make([]byte, 1)); !errors.As(err, &broken) {
		t.Errorf("after the end of the sandbox: %v, want a reset connection", err)
	}
}

// TestConnectOverHTTP2: CONNECT is a stream of HTTP/2, with and without TLS.
func TestConnectOverHTTP2(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]option{"TLS": {withTLS}, "clear text": {withH2C}} {
		w := newWorld(t, nil, options...)
		w.bytesProgram()
		transport := w.client.Transport.(*http.Transport)
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetHTTP2(true)
		transport.Protocols.SetUnencryptedHTTP2(true)
		body, feed := io.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r := w.request("CONNECT", w.port(boxPort), "", body, "X-Wrenn-Traffic-Token: "+w.token).WithContext(ctx)
		res, err := w.client.Do(r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if res.StatusCode != http.StatusOK || res.ProtoMajor != 2 {
			t.Fatalf("%s: %s %d", name, res.Proto, res.StatusCode)
		}
		if _, err := io.WriteString(feed, "hello"); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(res.Body, got); string(got) != "HELLO" || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		w.fake.end()
		if _, err := res.Body.Read(got); err == nil || err == io.EOF {
			t.Errorf("%s: after the end of the sandbox: %v, want a reset stream", name, err)
		}
		_ = res.Body.Close()
	}
}

// TestClientGoes: the program notices that its client has gone.
func TestClientGoes(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	began := make(chan struct{})
	w := newWorld(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(gone)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	r := w.request("GET", w.port(boxPort), "/", nil, "X-Wrenn-Traffic-Token: "+w.token).WithContext(ctx)
	done := make(chan error, 1)
	go func() {
		res, err := w.client.Do(r)
		if err == nil {
			_ = res.Body.Close()
		}
		done <- err
	}()
	<-began
	cancel()
	if err := <-done; err == nil {
		t.Error("the cancelled request succeeded")
	}
	<-gone
}

// TestNoEmptyDataFrames: clients take empty DATA frames of HTTP/2 for an attack.
func TestNoEmptyDataFrames(t *testing.T) {
	t.Parallel()
	w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range 200 {
			_, _ = w.Write(make([]byte, 32<<10))
			_ = http.NewResponseController(w).Flush()
		}
	}), withH2C)
	conn, err := net.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	var head []byte
	for _, field := range [][2]string{
		{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", w.port(boxPort)}, {"x-wrenn-traffic-token", w.token},
	} { // literals of HPACK without indexing
		head = append(append(head, 0, byte(len(field[0]))), field[0]...)
		head = append(append(head, byte(len(field[1]))), field[1]...)
	}
	frame := func(kind, flags byte, stream byte, payload ...byte) []byte {
		return append([]byte{0, byte(len(payload) >> 8), byte(len(payload)), kind, flags, 0, 0, 0, stream}, payload...)
	}
	const window = 0x7f // the first byte of a window that nothing here fills
	request := bytes.Join([][]byte{
		[]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(4, 0, 0, 0, 4, window, 0xff, 0xff, 0xff),
		frame(8, 0, 0, window, 0, 0, 0), frame(1, 0x5, 1, head...),
	}, nil)
	if _, err := conn.Write(request); err != nil {
		t.Fatal(err)
	}
	in, data, empty := bufio.NewReader(conn), 0, 0
	for {
		var h [9]byte
		if _, err := io.ReadFull(in, h[:]); err != nil {
			t.Fatal(err)
		}
		length := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
		if _, err := io.CopyN(io.Discard, in, int64(length)); err != nil {
			t.Fatal(err)
		}
		if h[3] != 0 {
			continue
		}
		data += length
		if end := h[4]&1 != 0; end {
			break
		} else if length == 0 {
			empty++
		}
	}
	if data != 200*32<<10 || empty > 0 {
		t.Errorf("%d bytes with %d empty frames, want %d and none", data, empty, 200*32<<10)
	}
}

// TestConnectionOutlivesARefusal: a request whose body nobody has read, because nothing
// listens on its port, leaves the client's connection ready for the next one.
func TestConnectionOutlivesARefusal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	conns := 0
	transport := w.client.Transport.(*http.Transport)
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conns++
		return dial(ctx, network, address)
	}
	path := "/v1/sandboxes/" + string(box) + "/ports/3000/"
	for range 3 {
		r := w.request("POST", "api.test", path, strings.NewReader("body"), "X-Api-Key: "+apiKey)
		w.want(w.do(r), http.StatusBadGateway, "port_refused")
	}
	if conns != 1 {
		t.Errorf("3 requests took %d connections, want 1", conns)
	}
}
