package hostclient_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"testing"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/api/gen/host/v1/hostv1connect"
	"github.com/wrenn-dev/wrenn/internal/certs"
	"github.com/wrenn-dev/wrenn/internal/certs/certstest"
	"github.com/wrenn-dev/wrenn/internal/control/hostclient"
	"github.com/wrenn-dev/wrenn/internal/host/rpc"
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
