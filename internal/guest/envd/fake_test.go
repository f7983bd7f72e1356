package envd

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/guest/agent"
	"github.com/wrenn-dev/wrenn/internal/guest/agent/agenttest"
)

// guest is a real server on a real socket, with a platform of the test.
type guest struct {
	t        *testing.T
	platform *agenttest.Platform
	agent    *agent.Agent
	base     string
	root     string
	home     string
	user     string
	token    string
}

const testPatience = 20 * time.Second

// newGuest returns a sealed guest.
func newGuest(t *testing.T) *guest {
	t.Helper()
	root, err := agenttest.Root(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, platform: agenttest.NewPlatform(nil), root: root, user: "user", home: filepath.Join(root, "home")}
	g.serve(g.platform)
	return g
}

// serve runs a server until the end of the test.
func (g *guest) serve(p *agenttest.Platform) {
	g.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	a := agent.New(agent.Config{Platform: p, Root: g.root, Log: slog.New(slog.DiscardHandler), Version: "test"})
	server := New(a)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, listener) }()
	g.agent, g.base = a, "http://"+listener.Addr().String()
	g.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			g.t.Errorf("serve: %v", err)
		}
		grace, stop := context.WithTimeout(context.Background(), testPatience)
		defer stop()
		if err := a.Close(grace); err != nil {
			g.t.Errorf("close: %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
}

// response is an answer read to its end.
type response struct {
	status int
	header http.Header
	body   string
}

// do sends one request; header alternates names and values.
func (g *guest) do(method, path string, body io.Reader, header ...string) response {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), method, g.base+path, body)
	if err != nil {
		g.t.Fatal(err)
	}
	if g.token != "" {
		req.Header.Set(headerToken, g.token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return response{resp.StatusCode, resp.Header, string(b)}
}

// call sends a unary RPC as JSON.
func (g *guest) call(procedure string, message map[string]any, header ...string) (int, map[string]any) {
	g.t.Helper()
	b, err := json.Marshal(message)
	if err != nil {
		g.t.Fatal(err)
	}
	r := g.do(http.MethodPost, procedure, bytes.NewReader(b), append([]string{"Content-Type", "application/json"}, header...)...)
	var out map[string]any
	if err := json.Unmarshal([]byte(r.body), &out); err != nil {
		g.t.Fatalf("%s: %d %q", procedure, r.status, r.body)
	}
	return r.status, out
}

// hostToken is the token of the control channel.
const hostToken = "host's secret"

// configuration is a request that opens the guest as the user of the test.
func (g *guest) configuration() *guestv1.ConfigureRequest {
	return &guestv1.ConfigureRequest{
		SandboxId: "abc", Generation: 1, WallClockUnixNano: 1800000000000000000,
		Entropy: make([]byte, 32), Hostname: "sb-abc", Nameservers: []string{"192.0.2.1"}, NewIdentity: true,
		DefaultUser: g.user, AccessToken: hostToken, EnvdToken: "secret", Envs: map[string]string{"FROM": "sandbox"},
	}
}

// configure configures the guest as its host does. It ends the connections of others.
func (g *guest) configure(c *guestv1.ConfigureRequest) error {
	http.DefaultClient.CloseIdleConnections()
	_, err := g.agent.Configure(g.t.Context(), c, hostToken)
	return err
}

// open configures the guest and takes over its token.
func (g *guest) open() *guest {
	g.t.Helper()
	if err := g.configure(g.configuration()); err != nil {
		g.t.Fatalf("configure: %v", err)
	}
	g.token = "secret"
	return g
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
