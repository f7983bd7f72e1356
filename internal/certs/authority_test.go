package certs

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openFor(t *testing.T, domain string) *Authority {
	t.Helper()
	a, err := OpenAuthority(t.Context(), filepath.Join(t.TempDir(), "tls"), domain)
	must(t, err)
	return a
}

// trusting returns the configuration of a client that trusts nothing but the authority.
func trusting(t *testing.T, a *Authority, name string) *tls.Config {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(a.PEM()) {
		t.Fatalf("no certificate in %s", a.PEM())
	}
	return &tls.Config{RootCAs: roots, ServerName: name}
}

// greet makes a TLS connection to a server of issuer as a client of config.
func greet(t *testing.T, issuer *Issuer, config *tls.Config) (*x509.Certificate, error) {
	t.Helper()
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	go func() { _, _ = io.Copy(io.Discard, tls.Server(there, IssuedConfig(issuer))) }()
	conn := tls.Client(here, config)
	if err := conn.HandshakeContext(t.Context()); err != nil {
		return nil, err
	}
	return conn.ConnectionState().PeerCertificates[0], nil
}

func TestAuthorityIsCreatedOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	found := make([]string, 8)
	var all sync.WaitGroup
	for i := range found {
		all.Go(func() {
			a, err := OpenAuthority(t.Context(), dir, "example.com")
			if err != nil {
				t.Error(err)
				return
			}
			found[i] = string(a.PEM())
		})
	}
	all.Wait()
	for _, f := range found {
		if f == "" || f != found[0] {
			t.Fatalf("servers that started at the same time have different authorities:\n%s", strings.Join(found, "\n"))
		}
	}
	for name, want := range map[string]os.FileMode{"ca-example.com.pem": 0o644, "ca-example.com.key": 0o600} {
		st, err := os.Stat(filepath.Join(dir, name))
		must(t, err)
		if st.Mode().Perm() != want {
			t.Errorf("%s has the mode %o, want %o", name, st.Mode().Perm(), want)
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, "ca-example.com.key"), []byte("damaged"), 0o600))
	if _, err := OpenAuthority(t.Context(), dir, "example.com"); err == nil {
		t.Error("an authority with a damaged key was opened, or replaced, want an error")
	}
	if _, err := OpenAuthority(t.Context(), dir, "../example"); err == nil {
		t.Error("an authority was made for ../example, want an error")
	}
}

func TestNamesOfPortsAreServed(t *testing.T) {
	for _, domain := range []string{"localhost", "sandboxes.example.com"} {
		a := openFor(t, domain)
		issuer := NewIssuer(a, domain, net.IPv4(10, 1, 2, 3), net.IPv4(203, 0, 113, 9))
		for name, ok := range map[string]bool{
			domain: true, "3000-abc." + domain: true, "localhost": true, "127.0.0.1": true, "::1": true, "10.1.2.3": true,
			"a.3000-abc." + domain: false, "203.0.113.9": false, "example.org": false,
		} {
			leaf, err := greet(t, issuer, trusting(t, a, name))
			if (err == nil) != ok {
				t.Errorf("%s of %s: error %v, want success %t", name, domain, err, ok)
			}
			// OpenSSL accepts no wildcard with a single label after it.
			if err == nil && domain == "localhost" && strings.HasPrefix(name, "3000") && leaf.DNSNames[0] != name {
				t.Errorf("the certificate for %s is for %q, want the name itself", name, leaf.DNSNames)
			}
		}
	}
}

func TestAuthorityIsConstrained(t *testing.T) {
	a := openFor(t, "example.com")
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	for name, ok := range map[string]bool{"x.example.com": true, "example.org": false, "notexample.com": false} {
		stolen, err := a.issue([]string{name}, nil, time.Now())
		must(t, err)
		if _, err := stolen.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); (err == nil) != ok {
			t.Errorf("a certificate of the authority for %s: %v, want accepted %t", name, err, ok)
		}
	}
	stolen, err := a.issue(nil, []net.IP{net.IPv4(203, 0, 113, 9)}, time.Now())
	must(t, err)
	if _, err := stolen.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "203.0.113.9"}); err == nil {
		t.Error("a certificate of the authority for a public address was accepted, want an error")
	}
}

func TestIssuedCertificateIsRenewed(t *testing.T) {
	a := openFor(t, "example.com")
	issuer, now := NewIssuer(a, "example.com"), time.Now()
	issuer.now = func() time.Time { return now }
	serial := func() string {
		client := trusting(t, a, "example.com")
		client.Time = issuer.now
		leaf, err := greet(t, issuer, client)
		must(t, err)
		return leaf.SerialNumber.String()
	}
	first := serial()
	if again := serial(); again != first {
		t.Error("each handshake gets a new certificate, want the same one")
	}
	now = now.Add(certificateLife - renewBefore + time.Minute)
	if renewed := serial(); renewed == first {
		t.Errorf("the certificate is the same %s before its end, want a new one", renewBefore)
	}
}

func TestIssuedCertificatesAreBounded(t *testing.T) {
	issuer := NewIssuer(openFor(t, "localhost"), "localhost")
	for i := range maxIssued {
		issuer.issued[strconv.Itoa(i)+".localhost"] = &tls.Certificate{Leaf: &x509.Certificate{}}
	}
	if _, err := issuer.certificate(&tls.ClientHelloInfo{ServerName: "1-x.localhost"}); err != nil {
		t.Fatal(err)
	}
	if n := len(issuer.issued); n > maxIssued {
		t.Errorf("%d certificates are kept, want at most %d", n, maxIssued)
	}
}
