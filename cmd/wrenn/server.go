package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/internal/certs"
	"github.com/wrenn-dev/wrenn/internal/control/hostclient"
	"github.com/wrenn-dev/wrenn/internal/daemon"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

type serverConfig struct {
	log   logSettings
	api   apiSettings
	hosts hostsSettings
	token secretSetting
	// databaseURL is required: a control plane of its own has no embedded one.
	database requiredDatabase
}

// hostsSettings name the host agents and say how they are spoken to.
type hostsSettings struct {
	token *secretSetting
	list  []string
	// authorities are those of the agents' certificates, identity is what the
	// control plane shows the agents.
	authorities caSettings
	identity    certSettings
}

func (s *hostsSettings) flags(f flagSet) {
	f.StringSliceVar(&s.list, "host", nil, "a host agent, as NAME=ADDRESS; may be repeated")
	s.authorities = caSettings{flag: "host-ca", what: "file with the authorities of the agents' certificates"}
	s.authorities.flags(f)
	s.identity = certSettings{prefix: "host", whose: "the control plane, shown to agents"}
	s.identity.flags(f)
}

func (s *hostsSettings) validate() error {
	if len(s.list) == 0 {
		return errors.New("at least one --host NAME=ADDRESS is needed")
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

// access returns how agents are told who asks.
func (s *hostsSettings) access() hostclient.Access {
	return hostclient.Access{
		Token: s.token.value, Certificate: s.identity.given(),
		TLS: func() *tls.Config { return certs.ClientConfig(s.authorities.authorities, s.identity.identity) },
	}
}

// requiredDatabase is the URL of a server that somebody else runs.
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
		return errors.New("DATABASE_URL or --database-url-file is needed (`wrenn up` brings a database of its own)")
	}
	return nil
}

func (p program) addServer() {
	cfg := &serverConfig{token: secretSetting{name: "host-token", what: "secret between control plane and agents"}}
	cfg.hosts.token = &cfg.token
	cmd := &cobra.Command{
		Use:   "server [flags]",
		Short: "Run the control plane alone, for host agents elsewhere",
		Long: "Run the control plane with its REST API alone. It keeps the truth in the PostgreSQL of DATABASE_URL and uses\n" +
			"the host agents named with --host, each by the name that the agent has from its --host-id.\n\n" +
			"Each flag can be given as an environment variable: --host-ca as WRENN_HOST_CA.",
		Example: "  DATABASE_URL=postgres://wrenn@db/wrenn wrenn server --listen 10.0.0.1:8080 \\\n" +
			"    --tls-cert api.pem --tls-key api.key --host one=https://10.0.0.2:7070 --host two=https://10.0.0.3:7070 \\\n" +
			"    --host-ca ca.pem --host-cert plane.pem --host-key plane.key",
	}
	p.add(p.app.Root(), cmd, config{&cfg.log, &cfg.database, &cfg.api, &cfg.token, &cfg.hosts},
		func(ctx context.Context, _ []string) error {
			log := cfg.log.logger(p.io.Err)
			logConfiguration(log, cmd.Flags())
			plane := controlPlane{
				api: cfg.api, databaseURL: cfg.database.url.value, hosts: cfg.hosts.members(),
				keyCommand: "DATABASE_URL=... wrenn key create NAME", log: log,
			}
			return daemon.Run(ctx, log, plane.component())
		})
}
