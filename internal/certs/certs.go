package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
)

// Identity is a certificate chain with its private key, from two files. It is
// safe for concurrent use.
type Identity struct{ files *watched[*tls.Certificate] }

// OpenIdentity reads a certificate chain and its key, both in PEM. The error
// names the fault in the files.
func OpenIdentity(certFile, keyFile string) (*Identity, error) {
	w, err := open(func(contents [][]byte) (*tls.Certificate, error) {
		cert, err := tls.X509KeyPair(contents[0], contents[1])
		return &cert, err
	}, certFile, keyFile)
	if err != nil {
		return nil, err
	}
	return &Identity{w}, nil
}

// Authorities are the certificates that others' certificates are checked
// against, from one file. It is safe for concurrent use.
type Authorities struct{ files *watched[*x509.CertPool] }

// OpenAuthorities reads one or more certificates in PEM.
func OpenAuthorities(file string) (*Authorities, error) {
	w, err := open(func(contents [][]byte) (*x509.CertPool, error) {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(contents[0]) {
			return nil, errors.New(file + " holds no certificate in PEM")
		}
		return pool, nil
	}, file)
	if err != nil {
		return nil, err
	}
	return &Authorities{w}, nil
}

// protocols are offered in each handshake.
var protocols = []string{"h2", "http/1.1"}

// ServerConfig returns the configuration of a server that presents identity. If
// clients is not nil, the server accepts only clients with a certificate of one
// of these authorities.
func ServerConfig(identity *Identity, clients *Authorities) *tls.Config {
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protocols,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return identity.files.get(), nil
		},
	}
	if clients == nil {
		return cfg
	}
	cfg.ClientAuth = tls.RequireAndVerifyClientCert
	// Called for each connection, so that a changed file takes effect.
	base := cfg.Clone()
	cfg.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		fresh := base.Clone()
		fresh.ClientCAs = clients.files.get()
		return fresh, nil
	}
	return cfg
}

// ClientConfig returns the configuration for the next connection of a client.
// Servers are checked against roots, or the machine's own authorities if that
// is nil; identity is presented to servers that ask for one and may be nil.
func ClientConfig(roots *Authorities, identity *Identity) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protocols}
	if roots != nil {
		cfg.RootCAs = roots.files.get()
	}
	if identity != nil {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return identity.files.get(), nil
		}
	}
	return cfg
}
