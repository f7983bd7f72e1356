package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestAutoTLSIsTrustedByTheOutputOfCA: a client that trusts only the output of wrenn ca
// reaches the name of a sandbox's port, and the name of the server, over HTTPS.
func TestAutoTLSIsTrustedByTheOutputOfCA(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	got := wrenn(t, nil, "ca", "--data-dir", dir)
	if got.code != 0 || !strings.Contains(got.err, "curl --cacert "+filepath.Join(dir, "tls", "ca-localhost.pem")) {
		t.Fatalf("wrenn ca: got %+v, want a certificate, and the ways to trust it", got)
	}
	if again := wrenn(t, []string{"WRENN_DATA_DIR=" + dir}, "ca"); again.out != got.out {
		t.Errorf("the second wrenn ca printed %q, want the same certificate", again.out)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(got.out)) {
		t.Fatalf("wrenn ca printed no certificate: %q", got.out)
	}

	plane := controlPlane{
		api:          apiSettings{listen: "127.0.0.1:0", domain: "localhost", tls: apiTLS{mode: tlsAuto}},
		authorityDir: layout{dir}.authority(), log: slog.New(slog.DiscardHandler),
	}
	listener, err := plane.listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) })}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, listener.Addr().String())
		},
	}}
	for _, host := range []string{"3000-k3jv.localhost", "localhost", "127.0.0.1"} {
		answer, err := client.Get("https://" + host + "/")
		if err != nil {
			t.Errorf("https://%s: %v, want an answer", host, err)
			continue
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil || string(body) != host {
			t.Errorf("https://%s: got %q, %v, want the host name", host, body, err)
		}
		_ = answer.Body.Close()
	}
	if _, err := client.Get("https://3000-k3jv.example.com/"); err == nil {
		t.Error("https://3000-k3jv.example.com was reached, want an error of the certificate")
	}
}

func TestAutoTLSExcludesACertificate(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--tls", "yes"}, "--tls must be auto"},
		{[]string{"--tls", "auto", "--tls-cert", "a.pem", "--tls-key", "a.key"}, "exclude each other"},
		{[]string{"--tls-ca-dir", "/srv/ca"}, "--tls-ca-dir needs --tls auto"},
	} {
		got := wrenn(t, nil, append([]string{"up"}, test.args...)...)
		if got.code != 2 || !strings.Contains(got.err, test.want) {
			t.Errorf("wrenn up %v: got %+v, want the exit code 2 and %q", test.args, got, test.want)
		}
	}
}
