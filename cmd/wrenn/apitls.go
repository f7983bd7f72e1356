package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/internal/certs"
	"github.com/wrenn-dev/wrenn/internal/control/traffic"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/doctor"
)

// tlsAuto is the value of --tls with which certificates are issued by an authority of the
// installation.
const tlsAuto = "auto"

// apiTLS are the settings of TLS of the REST API and the ports of sandboxes: a given
// certificate, or an authority that issues them.
type apiTLS struct {
	files certSettings
	// mode is tlsAuto, or empty for the given certificate or clear text.
	mode string
	// authorityDir is empty for the one of the installation.
	authorityDir string
}

func (s *apiTLS) flags(f flagSet) {
	s.files = certSettings{prefix: "tls", whose: "the REST API"}
	s.files.flags(f)
	f.StringVar(&s.mode, "tls", "", "auto: speak TLS with certificates for --domain from an authority that is made at the first start; `wrenn ca` prints it")
	authorityFlag(f, &s.authorityDir)
}

func authorityFlag(f flagSet, dir *string) {
	f.StringVar(dir, "tls-ca-dir", "", "directory of the authority of --tls auto (default: tls in the data directory)")
}

func (s *apiTLS) given() bool { return s.mode == tlsAuto || s.files.given() }

func (s *apiTLS) validate() error {
	switch {
	case s.mode != "" && s.mode != tlsAuto:
		return fmt.Errorf("--tls must be %s, not %q; --tls-cert and --tls-key name a certificate of yours", tlsAuto, s.mode)
	case s.mode == tlsAuto && (s.files.cert != "" || s.files.key != ""):
		return errors.New("--tls auto and --tls-cert exclude each other")
	case s.mode == "" && s.authorityDir != "":
		return errors.New("--tls-ca-dir needs --tls auto")
	}
	return s.files.validate()
}

// config returns the server's side of TLS. dir is the directory of the installation's
// authority, and listen the address that clients connect to.
func (s *apiTLS) config(ctx context.Context, dir, domain string, listen net.Addr) (*tls.Config, error) {
	if s.mode != tlsAuto {
		return certs.ServerConfig(s.files.identity, nil), nil
	}
	if s.authorityDir != "" {
		dir = s.authorityDir
	}
	authority, err := openAuthority(ctx, dir, domain)
	if err != nil {
		return nil, err
	}
	return certs.IssuedConfig(certs.NewIssuer(authority, domain, addressesOf(listen)...)), nil
}

func openAuthority(ctx context.Context, dir, domain string) (*certs.Authority, error) {
	authority, err := certs.OpenAuthority(ctx, dir, domain)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "invalid_authority", "the certificate authority in %s cannot be used: %v", dir, err)
	}
	return authority, nil
}

// addressesOf returns the IP address of a listener, or those of the machine if it listens
// on all.
func addressesOf(listen net.Addr) (found []net.IP) {
	tcp, ok := listen.(*net.TCPAddr)
	if !ok {
		return nil
	}
	if !tcp.IP.IsUnspecified() {
		return []net.IP{tcp.IP}
	}
	all, _ := net.InterfaceAddrs() // without them, names still work
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			found = append(found, n.IP)
		}
	}
	return found
}

// caConfig are the settings of wrenn ca.
type caConfig struct {
	data   dataSettings
	domain string
	dir    string
}

func (c *caConfig) flags(f flagSet) {
	f.StringVar(&c.domain, "domain", traffic.DefaultDomain, "domain of the server")
	authorityFlag(f, &c.dir)
}

func (c *caConfig) validate() error {
	if c.dir == "" {
		c.dir = c.data.layout().authority()
	}
	address, err := traffic.ParseAddress(c.domain, true, "443")
	if err != nil {
		return fmt.Errorf("--domain: %s", fault.As(err).Public)
	}
	c.domain = address.Domain
	return nil
}

func (p program) addCA() {
	cfg := new(caConfig)
	cmd := &cobra.Command{
		Use:   "ca [flags]",
		Short: "Print the certificate authority that clients of --tls auto trust",
		Long: "Print the certificate of the authority that issues the certificates of `wrenn up --tls auto`, in PEM. It is\n" +
			"created if it is missing. Clients accept it for the server's domain, localhost and private addresses only.",
		Example: "  sudo wrenn ca >wrenn-ca.pem\n  curl --cacert wrenn-ca.pem https://localhost:8080/healthz",
	}
	p.add(p.app.Root(), cmd, config{&cfg.data, cfg}, func(ctx context.Context, _ []string) error { return p.printCA(ctx, cfg) })
}

func (p program) printCA(ctx context.Context, cfg *caConfig) error {
	file := certs.AuthorityFile(cfg.dir, cfg.domain)
	content, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		var authority *certs.Authority
		if authority, err = openAuthority(ctx, cfg.dir, cfg.domain); err != nil {
			return err
		}
		content = authority.PEM()
	}
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "invalid_authority", "the certificate authority %s cannot be read: %v", file, err)
	}
	if _, err := p.io.Out.Write(content); err != nil {
		return err
	}
	name := doctor.Quote(file)
	fmt.Fprintf(p.io.Err, "To trust it: curl --cacert %[1]s, wrenn --ca-file %[1]s, NODE_EXTRA_CA_CERTS=%[1]s, SSL_CERT_FILE=%[1]s (Python),\n"+
		"or on all of a Debian machine: cp %[1]s /usr/local/share/ca-certificates/wrenn.crt && update-ca-certificates\n", name)
	return nil
}
