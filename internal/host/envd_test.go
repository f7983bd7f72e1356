package host_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// portClient returns an HTTP client whose requests to any address go to port of a
// sandbox, through its host agent.
func (b *bench) portClient(ref sandbox.Ref, port uint16) *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		opened, err := b.DialPort(ctx, ref, port, false)
		if err != nil {
			return nil, err
		}
		near, far, err := tcpPair(ctx)
		if err != nil {
			opened.Close()
			return nil, err
		}
		go func() { _ = opened.Carry(far) }() // which ends with the connection
		return near, nil
	}}
	b.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 2 * time.Minute}
}

// tcpPair returns both ends of a connection.
func tcpPair(ctx context.Context) (near, far *net.TCPConn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	dialed, err := new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	accepted, err := l.Accept()
	if err != nil {
		_ = dialed.Close()
		return nil, nil, err
	}
	return dialed.(*net.TCPConn), accepted.(*net.TCPConn), nil
}

// envd requests path of the guest's public server with token.
func (b *bench) envd(ref sandbox.Ref, path, token string) (status int, body string) {
	b.t.Helper()
	client := b.portClient(ref, 49983)
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, "http://guest"+path, nil)
	check(b.t, err)
	req.Header.Set("X-Access-Token", token)
	resp, err := client.Do(req)
	check(b.t, err)
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	check(b.t, err)
	return resp.StatusCode, string(content)
}

// TestEnvdToken: the guest's public server takes the token of its sandbox and no other,
// over a pause and a resume, and a copy takes its own.
func TestEnvdToken(t *testing.T) { onEachRuntime(t, envdToken) }

func envdToken(t *testing.T, kind sandbox.Runtime) {
	b := newBenchOf(t, kind, "envdtoken")
	ref, copied, closed := newRef(), newRef(), newRef()
	admits := func(ref sandbox.Ref, when, token string, want int) {
		t.Helper()
		if got, body := b.envd(ref, "/metrics", token); got != want {
			t.Errorf("%s: token %q: got %d %s, want %d", when, token, got, body, want)
		}
	}
	with := func(token string) sandbox.Spec {
		spec := smallSpec
		spec.EnvdToken = token
		return spec
	}
	_, err := b.Create(t.Context(), ref, with("parent's"))
	check(t, err)
	admits(ref, "after the create", "parent's", http.StatusOK)
	admits(ref, "after the create", "", http.StatusUnauthorized)
	_, envs := b.envd(ref, "/envs", "parent's")
	for _, want := range []string{`"E2B_SANDBOX":"true"`, `"E2B_SANDBOX_ID":"` + string(ref.ID) + `"`, `"E2B_TEMPLATE_ID":"minimal"`} {
		if !strings.Contains(envs, want) {
			t.Errorf("the environment %s has no %s", envs, want)
		}
	}
	_, err = b.Snapshot(t.Context(), ref, coreSnapshot, false)
	check(t, err)
	_, err = b.CreateFrom(t.Context(), copied, with("child's"), coreSnapshot)
	check(t, err)
	_, err = b.CreateFrom(t.Context(), closed, smallSpec, coreSnapshot)
	check(t, err)
	admits(copied, "in the copy", "child's", http.StatusOK)
	admits(copied, "in the copy", "parent's", http.StatusUnauthorized)
	for _, token := range []string{"", "parent's", "child's"} {
		admits(closed, "in a copy without a token", token, http.StatusUnauthorized)
	}
	_, err = b.Pause(t.Context(), ref)
	check(t, err)
	ref.Generation++
	_, err = b.Resume(t.Context(), ref)
	check(t, err)
	admits(ref, "after the resume", "parent's", http.StatusOK)
	admits(ref, "after the resume", "child's", http.StatusUnauthorized)
}

// fileServer is a program in a guest that serves its directory on TCP port 3000 of
// 127.0.0.1, and closes the pipe /tmp/ready when it listens. A script that polls the
// port would take half of the only CPU from it while it starts.
const fileServer = `
import http.server as h
s = h.ThreadingHTTPServer(("127.0.0.1", 3000), h.SimpleHTTPRequestHandler)
open("/tmp/ready", "w").close()
s.serve_forever()
`

// TestLoopbackProgram: a program that listens on 127.0.0.1 alone is reached, also after a
// pause and a resume, and large bodies pass whole.
func TestLoopbackProgram(t *testing.T) { onEachRuntime(t, loopbackProgram) }

func loopbackProgram(t *testing.T, kind sandbox.Runtime) {
	b := newBenchOf(t, kind, "loopback")
	ref := b.create()
	const size = 8 << 20
	b.sh(ref, "mkdir /srv/www && cd /srv/www && head -c "+strconv.Itoa(size)+" /dev/urandom >big && sha256sum <big | cut -c1-64 >sum && "+
		"mkfifo /tmp/ready && { setsid python3 -c '"+fileServer+"' >/dev/null 2>&1 </dev/null & } && cat /tmp/ready")
	fetch := func(when, path string) string {
		t.Helper()
		client := b.portClient(ref, 3000)
		defer client.CloseIdleConnections()
		resp, err := client.Get("http://guest/" + path)
		check(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: GET %s: %d after %d bytes, %v", when, path, resp.StatusCode, len(body), err)
		}
		return string(body)
	}
	same := func(when string) {
		t.Helper()
		sum := sha256.Sum256([]byte(fetch(when, "big")))
		if want := strings.TrimSpace(fetch(when, "sum")); hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s: the file has the sum %x, want %s", when, sum, want)
		}
	}
	same("after the start")
	_, err := b.Pause(t.Context(), ref)
	check(t, err)
	ref.Generation++
	_, err = b.Resume(t.Context(), ref)
	check(t, err)
	same("after the resume")
	if _, err := b.DialPort(t.Context(), ref, 3001, false); fault.ReasonOf(err) != "port_refused" {
		t.Errorf("a port without a program: %v, want port_refused", err)
	}
}
