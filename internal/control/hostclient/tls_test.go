package hostclient_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/api/gen/host/v1/hostv1connect"
	"github.com/wrenn-dev/wrenn/internal/certs"
	"github.com/wrenn-dev/wrenn/internal/certs/certstest"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/hostclient"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/rpc"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
	"github.com/wrenn-dev/wrenn/internal/tunnel"
)

// TestMutualTLS: an agent that checks certificates serves the control plane
// that has one, with the service's own server, and nobody else.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	ca, stranger := certstest.New(t, "ca"), certstest.New(t, "stranger")
	server, err := certs.OpenIdentity(ca.Issue(t, "agent"))
	check(t, err)
	roots, err := certs.OpenAuthorities(ca.File)
	check(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	mux := http.NewServeMux()
	var versions []string
	path, handler := hostv1connect.NewHostServiceHandler(&agent{info: &hostv1.GetHostResponse{}})
	mux.Handle(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		versions = append(versions, r.Proto)
		handler.ServeHTTP(w, r)
	}))
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(t.Context(), tls.NewListener(l, certs.ServerConfig(server, roots)), mux) }()
	t.Cleanup(func() {
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	for name, c := range map[string]struct {
		of *certstest.Authority
		ok bool
	}{"the authority": {ca, true}, "a stranger": {stranger, false}} {
		id, err := certs.OpenIdentity(c.of.Issue(t, "plane"))
		check(t, err)
		client, err := hostclient.New("https://"+l.Addr().String(), hostclient.Access{
			Certificate: true, TLS: func() *tls.Config { return certs.ClientConfig(roots, id) },
		})
		check(t, err)
		_, err = client.Info(t.Context())
		client.Close()
		if (err == nil) != c.ok {
			t.Errorf("with a certificate of %s: %v", name, err)
		}
	}
	if len(versions) != 1 || versions[0] != "HTTP/2.0" {
		t.Errorf("the agent saw the requests %v, want one over HTTP/2", versions)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestTunnelOverTLS: a tunnel to an agent that checks certificates needs one, and
// crosses on a connection of HTTP/1.1.
func TestTunnelOverTLS(t *testing.T) {
	t.Parallel()
	ca, stranger := certstest.New(t, "ca"), certstest.New(t, "stranger")
	server, err := certs.OpenIdentity(ca.Issue(t, "agent"))
	check(t, err)
	roots, err := certs.OpenAuthorities(ca.File)
	check(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	mux := http.NewServeMux()
	mux.HandleFunc(tunnel.Path, func(w http.ResponseWriter, r *http.Request) {
		req := &hostv1.TunnelRequest{}
		message, ok := tunnel.ReadRequest(r)
		if err := proto.Unmarshal(message, req); !ok || err != nil || req.GetPort() != 8080 || req.GetRef().GetId() != "abc" {
			t.Errorf("the request is %v (%t, %v)", req, ok, err)
		}
		c, err := tunnel.Accept(w)
		if err != nil {
			t.Errorf("accept: %v", err)
			return
		}
		_, _ = io.Copy(c, c)
		_ = c.CloseWrite()
		_ = c.Close()
	})
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(ctx, tls.NewListener(l, certs.ServerConfig(server, roots)), mux) }()
	defer func() { stop(); check(t, <-served) }()
	dial := func(of *certstest.Authority, timeout time.Duration) (control.PortConn, error) {
		id, err := certs.OpenIdentity(of.Issue(t, "plane"))
		check(t, err)
		client, err := hostclient.New("https://"+l.Addr().String(), hostclient.Access{
			Certificate: true, TLS: func() *tls.Config { return certs.ClientConfig(roots, id) },
		})
		check(t, err)
		defer client.Close()
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		return client.DialPort(ctx, sandbox.Ref{ID: "abc", Generation: 1}, 8080)
	}
	conn, err := dial(ca, time.Minute)
	check(t, err)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		_, _ = conn.Write(sent)
		_ = conn.CloseWrite()
	}()
	if got, err := io.ReadAll(conn); !bytes.Equal(got, sent) || err != nil {
		t.Errorf("%d bytes came back, %v; want the %d that were sent", len(got), err, len(sent))
	}
	check(t, conn.Close())
	if _, err := dial(stranger, time.Minute); !fault.Is(err, fault.HostFailed) {
		t.Errorf("with a stranger's certificate: %v, want a failure of the host", err)
	}
}

// TestTunnelsOfAnOldAgent: an agent that does not know tunnels is told apart from a
// sandbox that does not exist.
func TestTunnelsOfAnOldAgent(t *testing.T) {
	t.Parallel()
	c, _ := connectTo(t, &agent{})
	if _, err := c.DialPort(t.Context(), ref, 80); !fault.Is(err, fault.Unsupported) || fault.ReasonOf(err) != "tunnels_unsupported" {
		t.Errorf("an agent without tunnels: %v, want tunnels_unsupported", err)
	}
}
