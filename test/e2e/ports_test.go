package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// webServer is a program of a sandbox. It listens on port 3000: it counts what is sent,
// sends as many bytes as it is asked for, streams without an end, and echoes after an
// upgrade. Answers on port 3001 are not HTTP. Port 3002 is an endless header.
const webServer = `cat >/tmp/web.py <<'EOF'
import socketserver, threading, http.server
class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *a): pass
    def do_PUT(self):
        left, n = int(self.headers['Content-Length']), 0
        while n < left:
            n += len(self.rfile.read(min(1 << 16, left - n)))
        self.reply(str(n).encode())
    def reply(self, body):
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        if self.headers.get('Upgrade'):
            self.send_response(101)
            self.send_header('Connection', 'Upgrade')
            self.send_header('Upgrade', 'websocket')
            self.end_headers()
            while True:
                data = self.connection.recv(4096)
                if not data: break
                self.connection.sendall(data.upper())
            self.close_connection = True
        elif self.path.startswith('/bytes/'):
            n = int(self.path[7:])
            self.send_response(200)
            self.send_header('Content-Length', str(n))
            self.end_headers()
            piece = bytes(1 << 16)
            while n:
                n -= self.wfile.write(piece[:n])
        elif self.path == '/stream':
            self.send_response(200)
            self.send_header('Transfer-Encoding', 'chunked')
            self.end_headers()
            self.wfile.write(b'5\r\nfirst\r\n')
            threading.Event().wait()
        else:
            self.reply(('path %s host %s token %s' % (self.path, self.headers['Host'], self.headers.get('X-Wrenn-Traffic-Token'))).encode())
class Raw(socketserver.BaseRequestHandler):
    def handle(self): self.request.sendall(b'SSH-2.0-none\r\n' * 10)
class Endless(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b'HTTP/1.1 200 OK\r\n')
        while True: self.request.sendall(b'X-More: ' + b'x' * 1000 + b'\r\n')
def serve(port, handler):
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    socketserver.ThreadingTCPServer.daemon_threads = True
    server = socketserver.ThreadingTCPServer(('0.0.0.0', port), handler)
    threading.Thread(target=server.serve_forever).start()
for port, handler in ((3000, Web), (3001, Raw), (3002, Endless)): serve(port, handler)
open('/tmp/serving', 'w').close()
EOF
setsid python3 /tmp/web.py >/tmp/web.log 2>&1 </dev/null &
i=0; while [ ! -e /tmp/serving ]; do sleep 0.1; i=$((i+1)); [ $i -lt 1200 ] || { cat /tmp/web.log; exit 1; }; done`

// web is a sandbox with webServer, reached by host name.
type web struct {
	*testing.T
	server  *server
	id      string
	token   string
	address string // of the server
	http    *http.Client
}

func startWeb(t *testing.T, s *server, in client.CreateRequest) *web {
	t.Helper()
	sb := create(t, s.Client, in)
	sh(t, s.Client, sb.ID, webServer)
	traffic, err := s.Traffic(t.Context(), sb.ID)
	check(t, err)
	base, err := url.Parse(s.BaseURL)
	check(t, err)
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, base.Host)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &web{T: t, server: s, id: sb.ID, token: *traffic.Token, address: base.Host, http: &http.Client{Transport: transport}}
}

func (w *web) request(method string, port int, path string, body io.Reader) *http.Request {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), method, fmt.Sprintf("http://%d-%s.localhost%s", port, w.id, path), body)
	check(w, err)
	r.Header.Set("X-Wrenn-Traffic-Token", w.token)
	return r
}

// do returns the status and the body.
func (w *web) do(r *http.Request) (int, string) {
	w.Helper()
	res, err := w.http.Do(r)
	check(w, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	check(w, err)
	return res.StatusCode, string(body)
}

func (w *web) want(r *http.Request, status int, words string) {
	w.Helper()
	if got, body := w.do(r); got != status || !strings.Contains(body, words) {
		w.Errorf("%s %s: %d %.300s, want %d with %q", r.Method, r.URL, got, body, status, words)
	}
}

func testPorts(t *testing.T, s *server) {
	in := small
	in.PublicPorts = []int{3001}
	w := startWeb(t, s, in)
	host := fmt.Sprintf("3000-%s.localhost", w.id)
	w.want(w.request("GET", 3000, "/a?b=c", nil), 200, "path /a?b=c host "+host+" token None")
	w.want(w.request("GET", 3003, "/", nil), 502, `"message":"The sandbox is running but port is not open","port":3003`)
	w.want(w.request("GET", 3001, "/", nil), 502, "invalid_answer")
	w.want(w.request("GET", 3002, "/", nil), 502, "invalid_answer")
	wrong := w.request("GET", 3000, "/", nil)
	wrong.Header.Set("X-Wrenn-Traffic-Token", "trf_wrong")
	w.want(wrong, 403, "traffic_token_required")
	public := w.request("GET", 3001, "/", nil)
	public.Header.Del("X-Wrenn-Traffic-Token")
	w.want(public, 502, "invalid_answer")
	channel := w.request("GET", 49982, "/", nil)
	w.want(channel, 403, "port_reserved")

	byPath, err := http.NewRequestWithContext(t.Context(), "GET", s.BaseURL+"/v1/sandboxes/"+w.id+"/ports/3000/x", nil)
	check(t, err)
	byPath.Header.Set("Authorization", "Bearer "+s.APIKey)
	w.want(byPath, 200, "path /x ")

	portsCarryBytes(w)
	portsUpgrade(w)
	portsOfTheCommandLine(w)
	portsOfAPausedSandbox(w)

	stream := w.stream()
	check(t, s.Destroy(t.Context(), w.id))
	w.wantAborted(stream)
	w.want(w.request("GET", 3000, "/", nil), 502, `"message":"The sandbox was not found","code":502`)
}

// portsCarryBytes moves 100 MB each way while the server's memory stays small.
func portsCarryBytes(w *web) {
	w.Helper()
	const size = 100_000_000
	begin := time.Now()
	r := w.request("PUT", 3000, "/", io.LimitReader(zeros{}, size))
	r.ContentLength = size
	w.want(r, 200, fmt.Sprint(size))
	up := time.Since(begin)
	begin = time.Now()
	res, err := w.http.Do(w.request("GET", 3000, fmt.Sprint("/bytes/", size), nil))
	check(w, err)
	n, err := io.Copy(io.Discard, res.Body)
	check(w, errors.Join(err, res.Body.Close()))
	if n != size {
		w.Errorf("%d bytes came, want %d", n, size)
	}
	w.Logf("through a port: %.0f MB/s in, %.0f MB/s out", size/1e6/up.Seconds(), size/1e6/time.Since(begin).Seconds())
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// portsUpgrade echoes over a connection that a request upgraded, and over CONNECT.
func portsUpgrade(w *web) {
	w.Helper()
	conn, err := net.Dial("tcp", w.address)
	check(w, err)
	defer conn.Close()
	check(w, conn.SetDeadline(time.Now().Add(patience)))
	_, err = fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: 3000-%s.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Wrenn-Traffic-Token: %s\r\n\r\n", w.id, w.token)
	check(w, err)
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	check(w, err)
	if res.StatusCode != 101 {
		w.Fatalf("the upgrade was answered with %s", res.Status)
	}
	_, err = io.WriteString(conn, "hello")
	check(w, err)
	got := make([]byte, 5)
	if _, err := io.ReadFull(in, got); string(got) != "HELLO" || err != nil {
		w.Errorf("the echo is %q, %v", got, err)
	}
	raw, err := w.server.DialPort(w.Context(), w.id, 3001)
	check(w, err)
	defer raw.Close()
	if all, err := io.ReadAll(raw); !strings.HasPrefix(string(all), "SSH-2.0-none") || len(all) != 140 || err != nil {
		w.Errorf("a raw connection got %q, %v", all, err)
	}
}

// portsOfTheCommandLine tests port-forward and url as a user has them.
func portsOfTheCommandLine(w *web) {
	w.Helper()
	out, _, err := wrenn(w, env(w.server), "url", "--token", w.id, "3000")
	check(w, err)
	if !strings.HasPrefix(out, "http://3000-"+w.id+".localhost:") || !strings.HasSuffix(out, "?wrenn_traffic_token="+w.token+"\n") {
		w.Errorf("wrenn url printed %q", out)
	}
	cmd := exec.Command(binary(w), "port-forward", w.id, "3000:0")
	cmd.Env = append(os.Environ(), env(w.server)...)
	printed, err := cmd.StdoutPipe()
	check(w, err)
	check(w, cmd.Start())
	line, err := bufio.NewReader(printed).ReadString('\n')
	check(w, err)
	local, _, _ := strings.Cut(line, " ")
	res, err := http.Get("http://" + local + "/forwarded")
	check(w, err)
	body, err := io.ReadAll(res.Body)
	check(w, errors.Join(err, res.Body.Close()))
	if !strings.HasPrefix(string(body), "path /forwarded") {
		w.Errorf("through port-forward: %q", body)
	}
	check(w, cmd.Process.Signal(syscall.SIGINT))
	var ended *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &ended) || ended.ExitCode() != 130 {
		w.Errorf("port-forward ended with %v, want exit code 130", err)
	}
}

// stream opens an answer that does not end, and reads its beginning.
func (w *web) stream() *http.Response {
	w.Helper()
	res, err := w.http.Do(w.request("GET", 3000, "/stream", nil))
	check(w, err)
	w.Cleanup(func() { _ = res.Body.Close() })
	if _, err := io.ReadFull(res.Body, make([]byte, 5)); err != nil {
		w.Fatal(err)
	}
	return res
}

func (w *web) wantAborted(res *http.Response) {
	w.Helper()
	if rest, err := io.ReadAll(res.Body); err == nil {
		w.Errorf("the answer ended cleanly after %q, want an abort", rest)
	}
}

// portsOfAPausedSandbox pauses the sandbox in the middle of an answer. A request then
// is refused, or resumes the sandbox with auto_resume.
func portsOfAPausedSandbox(w *web) {
	w.Helper()
	stream := w.stream()
	_, err := w.server.Pause(w.Context(), w.id)
	check(w, err)
	w.wantAborted(stream)
	w.want(w.request("GET", 3000, "/", nil), 502, "The sandbox was not found")
	yes := true
	_, err = w.server.SetTimeout(w.Context(), w.id, client.TimeoutRequest{AutoResume: &yes})
	check(w, err)
	w.want(w.request("GET", 3000, "/woken", nil), 200, "path /woken")
}
