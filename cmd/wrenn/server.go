package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/internal/certs"
	"github.com/wrenn-dev/wrenn/internal/control/hostclient"
	"github.com/wrenn-dev/wrenn/internal/daemon"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

type serverConfig struct {
	log    logSettings
	api    apiSettings
	builds templateSettings
	hosts  hostsSettings
	token  secretSetting
	// databaseURL is required: a control plane of its own has no embedded one.
	database requiredDatabase
}

// hostsSettings name the host agents and the credentials for them.
type hostsSettings struct {
	token *secretSetting
	list  []string
	// authorities verify the agents' certificates; identity is the certificate of
	// the control plane.
	authorities caSettings
	identity    certSettings
}

func (s *hostsSettings) flags(f flagSet) {
	f.StringSliceVar(&s.list, "host", nil, "a host agent, as NAME=ADDRESS; may be repeated")
	s.authorities = caSettings{flag: "host-ca", description: "file with the authorities of the agents' certificates"}
	s.authorities.flags(f)
	s.identity = certSettings{prefix: "host", whose: "the control plane, shown to agents"}
	s.identity.flags(f)
}

func (s *hostsSettings) validate() error {
	if len(s.list) == 0 {
		return errors.New("give at least one --host NAME=ADDRESS")
	}
	if err := errors.Join(s.authorities.validate(), s.identity.validate()); err != nil {
		return err
	}
	for _, h := range s.list {
		name, address, ok := strings.Cut(h, "=")
		if !ok || name == "" || address == "" {
			return fmt.Errorf("--host is NAME=ADDRESS, with unix:///path, http://host:port or https://host:port as ADDRESS, not %q", h)
		}
		if c, err := hostclient.New(address, s.access()); err != nil {
			return fmt.Errorf("--host %s: %s", name, fault.As(err).Public)
		} else {
			c.Close()
		}
	}
	return nil
}

func (s *hostsSettings) members() []hostclient.Member {
	var out []hostclient.Member
	for _, h := range s.list {
		name, address, _ := strings.Cut(h, "=")
		out = append(out, hostclient.Member{ID: name, Address: address, Access: s.access()})
	}
	return out
}

// access returns the credentials for the agents.
func (s *hostsSettings) access() hostclient.Access {
	return hostclient.Access{
		Token: s.token.value, Certificate: s.identity.given(),
		TLS: func() *tls.Config { return certs.ClientConfig(s.authorities.authorities, s.identity.identity) },
	}
}

// requiredDatabase is the URL of an external PostgreSQL server.
type requiredDatabase struct{ url secretSetting }

func (s *requiredDatabase) flags(f flagSet) {
	s.url = databaseURL("PostgreSQL server")
	s.url.flags(f)
}

func (s *requiredDatabase) validate() error {
	if err := s.url.validate(); err != nil {
		return err
	}
	if s.url.value == "" {
		return errors.New("give DATABASE_URL or --database-url-file (only `wrenn up` has an embedded database)")
	}
	return nil
}

func (p program) addServer() {
	cfg := &serverConfig{token: secretSetting{name: "host-token", description: "secret between control plane and agents"}, builds: templateSettings{ownUploads: true}}
	cfg.hosts.token = &cfg.token
	cmd := &cobra.Command{
		Use:   "server [flags]",
		Short: "Run the control plane alone, for host agents elsewhere",
		Long: "Run only the control plane with its REST API. It stores its state in the PostgreSQL of DATABASE_URL and uses the\n" +
			"host agents of --host, whose NAME is the --host-id of the agent.\n\n" +
			"Every flag can be set by an environment variable, such as --host-ca by WRENN_HOST_CA.",
		Example: "  DATABASE_URL=postgres://wrenn@db/wrenn wrenn server --listen 10.0.0.1:8080 \\\n" +
			"    --tls-cert api.pem --tls-key api.key --host one=https://10.0.0.2:7070 --host two=https://10.0.0.3:7070 \\\n" +
			"    --host-ca ca.pem --host-cert plane.pem --host-key plane.key",
	}
	p.add(p.app.Root(), cmd, config{&cfg.log, &cfg.database, &cfg.api, &cfg.builds, &cfg.token, &cfg.hosts},
		func(ctx context.Context, _ []string) error {
			log := cfg.log.logger(p.io.Err)
			slog.SetDefault(log) // packages without a logger of their own use it, such as certs
			logConfiguration(log, cmd.Flags())
			plane := controlPlane{
				api: cfg.api, databaseURL: cfg.database.url.value, hosts: cfg.hosts.members(), builds: cfg.builds, uploads: cfg.builds.uploads,
				keyCommand: "DATABASE_URL=... wrenn key create NAME", log: log,
				authorityDir: layout{defaultDataDir}.authority(),
			}
			return daemon.Run(ctx, log, plane.component())
		})
}
