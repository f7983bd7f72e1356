package traffic_test

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/traffic"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
	"github.com/wrenn-dev/wrenn/internal/tunnel"
)

const (
	box     = sandbox.ID("k3jvq0f4m2n8")
	boxPort = "3000"
)

// fakeSandboxes has one sandbox, whose programs are listeners of the test.
type fakeSandboxes struct {
	mu       sync.Mutex // protects the following
	row      control.Sandbox
	programs map[uint16]string // addresses by port
	open     map[*net.TCPConn]bool
	dialErr  error
	dials    int
	// passive says that the latest dial was.
	passive bool
	// lateAfter is the number of dials after which the programs listen.
	lateAfter int
	// largest is the size, in bytes, of the largest piece that was written to a program.
	largest atomic.Int64
}

// measuredConn keeps the size of the largest piece that is written to it.
type measuredConn struct {
	*net.TCPConn
	largest *atomic.Int64
}

// Write implements net.Conn.
func (c measuredConn) Write(p []byte) (int, error) {
	for {
		old := c.largest.Load()
		if int64(len(p)) <= old || c.largest.CompareAndSwap(old, int64(len(p))) {
			return c.TCPConn.Write(p)
		}
	}
}

func (f *fakeSandboxes) Get(_ context.Context, id sandbox.ID) (control.Sandbox, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if id != box {
		return control.Sandbox{}, fault.New(fault.NotFound, control.ReasonSandboxNotFound, "there is no sandbox %s", id)
	}
	return f.row, nil
}

func (f *fakeSandboxes) DialPort(ctx context.Context, id sandbox.ID, port uint16, options ...control.DialOption) (control.PortConn, error) {
	f.mu.Lock()
	f.dials++
	f.passive = slices.Contains(options, control.Passive)
	dials := f.dials
	address, err := f.programs[port], f.dialErr
	f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if address == "" || id != box || dials <= f.lateAfter {
		return nil, fault.New(fault.HostFailed, control.ReasonPortRefused, "nothing listens on port %d of the sandbox", port)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fault.Wrap(err, fault.HostFailed, "host_unreachable", "no")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open[conn.(*net.TCPConn)] = true
	return measuredConn{conn.(*net.TCPConn), &f.largest}, nil
}

// end ends the sandbox: its connections break.
func (f *fakeSandboxes) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.row.State = sandbox.Stopped
	for conn := range f.open {
		tunnel.Abort(conn)
	}
}

func (f *fakeSandboxes) set(change func(row *control.Sandbox)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.row)
}

// world is a server with one sandbox.
type world struct {
	*testing.T
	fake   *fakeSandboxes
	server *httptest.Server
	client *http.Client
	token  string
}

// apiKey is the only key that the REST API takes.
const apiKey = "wrn_0123456789012345678901234567890123456789"

type option func(*traffic.Config, *httptest.Server)

// newWorld starts a server for a sandbox with one program on port 3000.
func newWorld(t *testing.T, program http.Handler, options ...option) *world {
	t.Helper()
	w := &world{T: t, fake: &fakeSandboxes{programs: make(map[uint16]string), open: make(map[*net.TCPConn]bool)}}
	w.fake.row = control.Sandbox{
		ID: box, Generation: 1, State: sandbox.Running, Spec: sandbox.Spec{TrafficKey: "key", PublicPorts: []int{8000}},
	}
	w.token = w.fake.row.Spec.TrafficToken(box)
	if program != nil {
		srv := httptest.NewServer(program)
		t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
		w.fake.programs[3000] = srv.Listener.Addr().String()
		w.fake.programs[8000] = w.fake.programs[3000]
	}
	config := traffic.Config{
		Sandboxes: w.fake, Domain: "box.test", Log: slog.New(slog.DiscardHandler),
		Admit: func(r *http.Request) error {
			if r.Header.Get("X-Api-Key") == apiKey || r.Header.Get("Authorization") == "Bearer "+apiKey {
				return nil
			}
			return fault.New(fault.Unauthenticated, "missing_api_key", "no")
		},
		Next: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "the API") }),
	}
	w.server = httptest.NewUnstartedServer(nil)
	for _, o := range options {
		o(&config, w.server)
	}
	h, err := traffic.New(config)
	if err != nil {
		t.Fatal(err)
	}
	w.server.Config.Handler = h
	w.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	if w.server.TLS != nil {
		w.server.EnableHTTP2 = true
		w.server.StartTLS()
	} else {
		w.server.Start()
	}
	t.Cleanup(func() { w.server.CloseClientConnections(); w.server.Close() })
	w.client = w.server.Client()
	transport := w.client.Transport.(*http.Transport)
	transport.DisableCompression = true
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", w.server.Listener.Addr().String())
	}
	if transport.TLSClientConfig != nil {
		transport.TLSClientConfig.InsecureSkipVerify = true // the name is the sandbox's
	}
	w.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return w
}

func withTLS(_ *traffic.Config, srv *httptest.Server) { srv.TLS = &tls.Config{} }

// answer is a response whose body has been read.
type answer struct {
	*http.Response
	body string
	err  error // of reading the body
}

// request returns a request to host and path with headers "Name: value".
func (w *world) request(method, host, path string, body io.Reader, headers ...string) *http.Request {
	w.Helper()
	scheme := "http://"
	if w.server.TLS != nil {
		scheme = "https://"
	}
	r, err := http.NewRequestWithContext(w.Context(), method, scheme+host+path, body)
	if err != nil {
		w.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	return r
}

func (w *world) do(r *http.Request) answer {
	w.Helper()
	res, err := w.client.Do(r)
	if err != nil {
		w.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res, string(body), err}
}

// get asks for path of port 3000 with the token.
func (w *world) get(path string, headers ...string) answer {
	w.Helper()
	return w.do(w.request("GET", boxPort+"-"+string(box)+".box.test", path, nil, append(headers, "X-Wrenn-Traffic-Token: "+w.token)...))
}

func (w *world) want(a answer, status int, words ...string) answer {
	w.Helper()
	if a.StatusCode != status {
		w.Errorf("status %d, want %d: %s", a.StatusCode, status, a.body)
	}
	for _, word := range words {
		if !strings.Contains(a.body, word) {
			w.Errorf("the body %q has no %q", a.body, word)
		}
	}
	return a
}

// withH2C serves HTTP/2 in clear text too.
func withH2C(_ *traffic.Config, srv *httptest.Server) {
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
}
