package certs_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/certs"
	"github.com/wrenn-dev/wrenn/internal/certs/certstest"
)

// serve accepts connections with cfg and writes one byte to each whose
// handshake succeeds.
func serve(t *testing.T, cfg *tls.Config) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = conn.Write([]byte{1})
			}()
		}
	}()
	return l.Addr().String()
}

// visit connects and returns the serial number of the server's certificate.
func visit(address string, cfg *tls.Config) (*big.Int, error) {
	conn, err := (&tls.Dialer{Config: cfg}).Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// The server checks the client's certificate after the client's handshake.
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		return nil, err
	}
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber, nil
}

func identity(t *testing.T, a *certstest.Authority, name string) *certs.Identity {
	t.Helper()
	id, err := certs.OpenIdentity(a.Issue(t, name))
	check(t, err)
	return id
}

func authorities(t *testing.T, file string) *certs.Authorities {
	t.Helper()
	a, err := certs.OpenAuthorities(file)
	check(t, err)
	return a
}

func TestRenewedCertificateIsServed(t *testing.T) {
	ca := certstest.New(t, "ca")
	at := serve(t, certs.ServerConfig(identity(t, ca, "server"), nil))
	roots := authorities(t, ca.File)
	first, err := visit(at, certs.ClientConfig(roots, nil))
	check(t, err)
	ca.Issue(t, "server")
	second, err := visit(at, certs.ClientConfig(roots, nil))
	check(t, err)
	if first.Cmp(second) == 0 {
		t.Error("after the certificate was renewed the server still shows the old one")
	}
}

func TestBrokenRenewalKeepsTheOldCertificate(t *testing.T) {
	ca := certstest.New(t, "ca")
	id := identity(t, ca, "server")
	at := serve(t, certs.ServerConfig(id, nil))
	roots := authorities(t, ca.File)
	first, err := visit(at, certs.ClientConfig(roots, nil))
	check(t, err)
	certFile := filepath.Join(filepath.Dir(ca.File), "server.pem")
	check(t, os.WriteFile(certFile, []byte("half a certifi"), 0o600))
	second, err := visit(at, certs.ClientConfig(roots, nil))
	check(t, err)
	if first.Cmp(second) != 0 {
		t.Error("a broken file replaced a good certificate")
	}
	check(t, os.Remove(certFile))
	if _, err := visit(at, certs.ClientConfig(roots, nil)); err != nil {
		t.Errorf("with the file away: %v", err)
	}
	ca.Issue(t, "server")
	third, err := visit(at, certs.ClientConfig(roots, nil))
	check(t, err)
	if third.Cmp(first) == 0 {
		t.Error("a good certificate after a broken one is not used")
	}
}

func TestClientNeedsACertificate(t *testing.T) {
	ca, stranger := certstest.New(t, "ca"), certstest.New(t, "stranger")
	clientCA := filepath.Join(t.TempDir(), "clients.pem")
	copyFile(t, ca.File, clientCA)
	at := serve(t, certs.ServerConfig(identity(t, ca, "server"), authorities(t, clientCA)))
	roots := authorities(t, ca.File)
	ours, theirs := identity(t, ca, "plane"), identity(t, stranger, "plane")
	for name, c := range map[string]struct {
		id *certs.Identity
		ok bool
	}{"none": {nil, false}, "of a stranger": {theirs, false}, "of the authority": {ours, true}} {
		if _, err := visit(at, certs.ClientConfig(roots, c.id)); (err == nil) != c.ok {
			t.Errorf("certificate %s: %v", name, err)
		}
	}
	// The authorities of clients are followed, too.
	copyFile(t, stranger.File, clientCA)
	if _, err := visit(at, certs.ClientConfig(roots, ours)); err == nil {
		t.Error("a client of the replaced authority got in")
	}
	if _, err := visit(at, certs.ClientConfig(roots, theirs)); err != nil {
		t.Errorf("a client of the new authority: %v", err)
	}
}

func TestServerIsChecked(t *testing.T) {
	ca, stranger := certstest.New(t, "ca"), certstest.New(t, "stranger")
	at := serve(t, certs.ServerConfig(identity(t, stranger, "server"), nil))
	if _, err := visit(at, certs.ClientConfig(authorities(t, ca.File), nil)); err == nil {
		t.Error("a server of an unknown authority was accepted")
	}
	// Without authorities of one's own the machine's count.
	if _, err := visit(at, certs.ClientConfig(nil, nil)); err == nil {
		t.Error("a server of an unknown authority was accepted by the machine's own")
	}
	if _, err := net.Dial("tcp", at); err != nil {
		t.Error(err)
	}
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	ca := certstest.New(t, "ca")
	cert, key := ca.Issue(t, "one")
	_, otherKey := ca.Issue(t, "two")
	empty := filepath.Join(t.TempDir(), "empty")
	check(t, os.WriteFile(empty, nil, 0o600))
	for name, files := range map[string][2]string{
		"missing": {"/nosuch", key}, "another's key": {cert, otherKey}, "no key": {cert, empty}, "directory": {t.TempDir(), key},
	} {
		if _, err := certs.OpenIdentity(files[0], files[1]); err == nil {
			t.Errorf("identity, %s: no error", name)
		}
	}
	for name, file := range map[string]string{"missing": "/nosuch", "empty": empty, "key": key} {
		if _, err := certs.OpenAuthorities(file); err == nil {
			t.Errorf("authorities, %s: no error", name)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	raw, err := os.ReadFile(from)
	check(t, err)
	check(t, os.WriteFile(to+".new", raw, 0o600))
	check(t, os.Rename(to+".new", to))
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestBrokenRenewalIsLogged counts the lines: one for each error, however often
// connections are made.
func TestBrokenRenewalIsLogged(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	ca := certstest.New(t, "ca")
	cert, _ := ca.Issue(t, "server")
	id, err := certs.OpenIdentity(cert, filepath.Join(filepath.Dir(cert), "server.key"))
	check(t, err)
	handshake := func() { _, _ = certs.ServerConfig(id, nil).GetCertificate(nil) }
	lines := func(want int, when string) {
		t.Helper()
		if got := strings.Count(log.String(), "cannot be reloaded"); got != want {
			t.Errorf("%s: %d lines in the log, want %d:\n%s", when, got, want, &log)
		}
	}
	handshake()
	lines(0, "with good files")
	check(t, os.WriteFile(cert, []byte("half a certifi"), 0o600))
	handshake()
	handshake()
	lines(1, "with a broken file")
	check(t, os.Remove(cert))
	handshake()
	handshake()
	lines(2, "with the file away")
	ca.Issue(t, "server")
	handshake()
	lines(2, "with good files again")
	check(t, os.Remove(cert))
	handshake()
	lines(3, "with the file away again")
}
