package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/linux/durable"
	"github.com/wrenn-dev/wrenn/internal/linux/flock"
)

const (
	authorityYears = 10
	// certificateLife is the validity of an issued certificate. It is replaced when
	// renewBefore of it is left.
	certificateLife = 90 * 24 * time.Hour
	renewBefore     = 30 * 24 * time.Hour
	// backdate is how far the clock of a client may be behind.
	backdate = time.Hour
	// maxIssued bounds the certificates that an Issuer keeps in memory.
	maxIssued = 1024
)

// Authority is a certificate authority in a directory. Several processes may have the
// same directory open.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// AuthorityFile returns the path of the certificate of the authority for domain in dir.
func AuthorityFile(dir, domain string) string { return filepath.Join(dir, "ca-"+domain+".pem") }

// OpenAuthority opens the authority for domain in dir and creates both if they are
// missing. The certificate is readable for everyone and the key, beside it, only for its
// owner.
//
// The authority is valid for 10 years. Clients accept it for domain, localhost and the
// names below them, and for private and loopback addresses only (name constraints of RFC
// 5280), so that a stolen key is of no use against other sites.
func OpenAuthority(ctx context.Context, dir, domain string) (*Authority, error) {
	if !validName.MatchString(domain) {
		return nil, fmt.Errorf("%q is not a domain", domain)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := flock.Open(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := flock.Wait(ctx, lock, 20*time.Millisecond); err != nil {
		return nil, err
	}
	certFile := AuthorityFile(dir, domain)
	keyFile := strings.TrimSuffix(certFile, ".pem") + ".key"
	// The key is written first: without a certificate, nobody trusts it yet.
	if _, err := os.Stat(certFile); errors.Is(err, os.ErrNotExist) {
		if err := createAuthority(certFile, keyFile, domain); err != nil {
			return nil, fmt.Errorf("create a certificate authority: %w", err)
		}
	}
	return readAuthority(certFile, keyFile)
}

// validName is a domain in lower case: labels of letters, digits and hyphens.
var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)

func readAuthority(certFile, keyFile string) (*Authority, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("%s is not a certificate authority of this program", certFile)
	}
	if left := time.Until(pair.Leaf.NotAfter); left < certificateLife {
		return nil, fmt.Errorf("the certificate authority in %s ends in %d days: remove it to have another made, which every client has to trust anew",
			certFile, int(left.Hours()/24))
	}
	return &Authority{cert: pair.Leaf, key: key, pem: encodePEM("CERTIFICATE", pair.Leaf.Raw)}, nil
}

// privateRanges are the addresses for which the authority may issue.
var privateRanges = []string{"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "::1/128", "fc00::/7"}

func createAuthority(certFile, keyFile, domain string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "Wrenn Sandbox, certificate authority for " + domain, Organization: []string{"Wrenn Sandbox"}},
		NotBefore: now.Add(-backdate), NotAfter: now.AddDate(authorityYears, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: []string{domain, "localhost"},
	}
	for _, text := range privateRanges {
		_, ipRange, err := net.ParseCIDR(text)
		if err != nil {
			return err
		}
		template.PermittedIPRanges = append(template.PermittedIPRanges, ipRange)
	}
	if template.SerialNumber, err = serialNumber(); err != nil {
		return err
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(keyFile, encodePEM("PRIVATE KEY", der), 0o600); err != nil {
		return err
	}
	return durable.WriteFile(certFile, encodePEM("CERTIFICATE", raw), 0o644)
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func serialNumber() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
}

// PEM returns the authority's certificate, which clients are to trust.
func (a *Authority) PEM() []byte { return a.pem }

// issue returns a certificate for a server with these names and addresses.
func (a *Authority) issue(names []string, addresses []net.IP, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		NotBefore: now.Add(-backdate), NotAfter: now.Add(certificateLife), DNSNames: names, IPAddresses: addresses,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if template.SerialNumber, err = serialNumber(); err != nil {
		return nil, err
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{raw, a.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// Issuer gives each handshake a certificate of an authority and renews it before it ends.
// It keeps certificates in memory only, so that several servers with one authority have
// nothing to agree upon. It is safe for concurrent use.
type Issuer struct {
	authority *Authority
	domain    string
	addresses []net.IP
	now       func() time.Time

	mu     sync.Mutex // protects issued
	issued map[string]*tls.Certificate
}

// NewIssuer returns an Issuer for domain, the names directly below it, localhost, the
// loopback addresses, and those of addresses for which the authority may issue.
func NewIssuer(authority *Authority, domain string, addresses ...net.IP) *Issuer {
	i := &Issuer{authority: authority, domain: domain, now: time.Now, issued: map[string]*tls.Certificate{}}
	for _, ip := range append([]net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, addresses...) {
		for _, permitted := range authority.cert.PermittedIPRanges {
			if permitted.Contains(ip) {
				i.addresses = append(i.addresses, ip)
				break
			}
		}
	}
	return i
}

// certificate returns the certificate for a handshake. A name directly below a domain of
// one label, such as localhost, gets one of its own, because clients accept no wildcard
// there (OpenSSL, X509_check_host). Every other name gets the common one.
func (i *Issuer) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	label, below := strings.CutSuffix(name, "."+i.domain)
	if !below || strings.Contains(i.domain, ".") || strings.Contains(label, ".") || !validName.MatchString(name) {
		name = ""
	}
	now := i.now()
	i.mu.Lock()
	defer i.mu.Unlock()
	if have := i.issued[name]; have != nil && have.Leaf.NotAfter.Sub(now) > renewBefore {
		return have, nil
	}
	names, addresses := []string{name}, []net.IP(nil)
	if name == "" {
		names, addresses = []string{i.domain, "*." + i.domain, "localhost"}, i.addresses
	}
	made, err := i.authority.issue(names, addresses, now)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	if len(i.issued) >= maxIssued {
		clear(i.issued)
	}
	i.issued[name] = made
	return made, nil
}

// IssuedConfig returns the configuration of a server that presents certificates of issuer.
func IssuedConfig(issuer *Issuer) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protocols, GetCertificate: issuer.certificate}
}
