package main

import (
	"errors"
	"fmt"

	"github.com/wrenn-dev/wrenn/internal/certs"
)

// certSettings name a certificate and its key, as files.
type certSettings struct {
	// prefix is that of the flags, such as "tls": --tls-cert and --tls-key.
	prefix string
	// whose certificate it is, for the help.
	whose     string
	cert, key string

	// identity is set by validate, if a certificate was given.
	identity *certs.Identity
}

func (s *certSettings) flags(f flagSet) {
	f.StringVar(&s.cert, s.prefix+"-cert", "", fmt.Sprintf("file with the certificate (chain) of %s, in PEM; read again when it changes", s.whose))
	f.StringVar(&s.key, s.prefix+"-key", "", "file with the private key for it")
}

func (s *certSettings) given() bool { return s.cert != "" }

func (s *certSettings) validate() error {
	if (s.cert == "") != (s.key == "") {
		return fmt.Errorf("--%s-cert and --%s-key go together", s.prefix, s.prefix)
	}
	if s.cert == "" {
		return nil
	}
	identity, err := certs.OpenIdentity(s.cert, s.key)
	if err != nil {
		return fmt.Errorf("--%s-cert and --%s-key: %w", s.prefix, s.prefix, err)
	}
	s.identity = identity
	return nil
}

// caSettings name the certificates of the authorities that are trusted.
type caSettings struct {
	// flag is the flag's name, such as "host-ca".
	flag, description string
	file              string

	// authorities is set by validate, if a file was given.
	authorities *certs.Authorities
}

func (s *caSettings) flags(f flagSet) {
	f.StringVar(&s.file, s.flag, "", s.description+", in PEM; read again when it changes")
}

func (s *caSettings) validate() error {
	if s.file == "" {
		return nil
	}
	authorities, err := certs.OpenAuthorities(s.file)
	if err != nil {
		return fmt.Errorf("--%s: %w", s.flag, err)
	}
	s.authorities = authorities
	return nil
}

var errNeedsTLS = errors.New("an agent that other machines reach needs --tls-cert, --tls-key and --tls-client-ca: " +
	"it must neither speak in clear text nor serve a control plane without a certificate")
