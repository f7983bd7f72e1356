package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/internal/control/hostclient"
	"github.com/wrenn-dev/wrenn/internal/daemon"
)

type serverConfig struct {
	log   logSettings
	api   apiSettings
	hosts hostsSettings
	token tokenSettings
	// databaseURL is required: a control plane of its own has no embedded one.
	database requiredDatabase
}

// hostsSettings name the host agents.
type hostsSettings struct {
	list []string
}

func (s *hostsSettings) flags(f flagSet) {
	f.StringSliceVar(&s.list, "host", nil, "a host agent, as NAME=ADDRESS; may be repeated")
}

func (s *hostsSettings) validate() error {
	if len(s.list) == 0 {
		return errors.New("at least one --host NAME=ADDRESS is needed")
	}
	for _, h := range s.list {
		if name, address, ok := strings.Cut(h, "="); !ok || name == "" || address == "" {
			return fmt.Errorf("--host is NAME=ADDRESS, with unix:///path, http://host:port or https://host:port as ADDRESS, not %q", h)
		}
	}
	return nil
}

func (s *hostsSettings) members(token string) []hostclient.Member {
	var out []hostclient.Member
	for _, h := range s.list {
		name, address, _ := strings.Cut(h, "=")
		out = append(out, hostclient.Member{ID: name, Address: address, Token: token})
	}
	return out
}

// requiredDatabase is the URL of a server that somebody else runs.
type requiredDatabase struct{ url string }

func (s *requiredDatabase) flags(f flagSet) {
	f.StringVar(&s.url, "database-url", "", "PostgreSQL server (DATABASE_URL)")
	f.env("database-url", "DATABASE_URL")
	f.secret("database-url")
}

func (s *requiredDatabase) validate() error {
	if s.url == "" {
		return errors.New("DATABASE_URL or --database-url is needed (`wrenn up` brings a database of its own)")
	}
	return nil
}

func (p program) addServer() {
	cfg := &serverConfig{token: tokenSettings{flag: "host-token"}}
	cmd := &cobra.Command{
		Use:   "server [flags]",
		Short: "Run the control plane alone, for host agents elsewhere",
		Long: "Run the control plane with its REST API alone. It keeps the truth in the PostgreSQL of DATABASE_URL and uses\n" +
			"the host agents named with --host, each by the name that the agent has from its --host-id.\n\n" +
			"Each flag can be given as an environment variable: --host-token as WRENN_HOST_TOKEN.",
		Example: "  DATABASE_URL=postgres://wrenn@db/wrenn wrenn server --listen 10.0.0.1:8080 \\\n" +
			"    --host one=http://10.0.0.2:7070 --host two=http://10.0.0.3:7070 --host-token-file /etc/wrenn/token",
	}
	p.add(p.app.Root(), cmd, config{&cfg.log, &cfg.database, &cfg.api, &cfg.hosts, &cfg.token},
		func(ctx context.Context, _ []string) error {
			log := cfg.log.logger(p.io.Err)
			logConfiguration(log, cmd.Flags())
			plane := controlPlane{
				api: cfg.api, databaseURL: cfg.database.url, hosts: cfg.hosts.members(cfg.token.value),
				keyCommand: "DATABASE_URL=... wrenn key create NAME", log: log,
			}
			return daemon.Run(ctx, log, plane.component())
		})
}
