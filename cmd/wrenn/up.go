package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/internal/control/hostclient"
	"github.com/wrenn-dev/wrenn/internal/daemon"
	"github.com/wrenn-dev/wrenn/internal/host/doctor"
)

// localHost is the id of the only host of wrenn up. Rows in the database refer
// to it, so it must not change with the machine's name.
const localHost = "local"

type upConfig struct {
	data     dataSettings
	dataFS   dataFSSettings
	log      logSettings
	database databaseSettings
	api      apiSettings
	builds   templateSettings
	host     hostSettings
}

func (p program) addUp() {
	cfg := new(upConfig)
	cmd := &cobra.Command{
		Use:   "up [flags]",
		Short: "Run the server: control plane, host agent and database on this machine",
		Long: "Run the server on this machine: the control plane with its REST API, the host agent and, unless DATABASE_URL\n" +
			"names a server, an embedded PostgreSQL. A missing guest kernel or template is built first. Sandboxes keep\n" +
			"running when the server ends, and the next one takes them over; `wrenn down` pauses them first.\n\n" +
			"The API requires a key. The first start creates one in DATA-DIR/api-key, which only root may read and where the\n" +
			"other wrenn commands find it. Create more with `wrenn key create`, also while the server runs.\n\n" +
			"Every flag can be set by an environment variable, such as --data-dir by WRENN_DATA_DIR.",
		Example: "  sudo wrenn up\n  sudo wrenn up --data-dir /srv/wrenn --listen 127.0.0.1:9000",
	}
	p.add(p.app.Root(), cmd, config{&cfg.data, &cfg.dataFS, &cfg.log, &cfg.database, &cfg.api, &cfg.builds, &cfg.host},
		func(ctx context.Context, _ []string) error {
			log := cfg.log.logger(p.io.Err)
			slog.SetDefault(log) // packages without a logger of their own use it, such as certs
			logConfiguration(log, cmd.Flags())
			return cfg.run(ctx, log)
		})
}

func (cfg *upConfig) run(ctx context.Context, log *slog.Logger) error {
	if err := needRoot(os.Geteuid(), "wrenn up"); err != nil {
		return err
	}
	dirs := cfg.data.layout()
	if err := dirs.make(); err != nil {
		return err
	}
	release, err := dirs.lockForUp()
	if err != nil {
		return err
	}
	defer release()
	if err := cfg.dataFS.prepare(ctx, dirs, log); err != nil {
		return err
	}
	plane := controlPlane{
		api: cfg.api, databaseURL: cfg.database.url.value, log: log, builds: cfg.builds, uploads: dirs.uploads(),
		hosts:      []hostclient.Member{{ID: localHost, Address: dirs.agentAddress()}},
		keyCommand: "wrenn key create --data-dir " + doctor.Quote(dirs.root) + " NAME",
		keyFile:    dirs.apiKey(), authorityDir: dirs.authority(),
	}
	if err := plane.tryListen(ctx); err != nil {
		return err
	}
	parts, err := spaceKeepers(dirs, log)
	if err != nil {
		return err
	}
	// The agent starts before the database, so that running sandboxes and their
	// clocks do not wait for it.
	agent := hostAgent{host: cfg.host, dirs: dirs, id: localHost, listen: dirs.agentAddress(), log: log}
	parts = append(parts, agent.component())
	if plane.databaseURL == "" {
		embedded := dirs.postgres(cfg.database)
		plane.databaseURL = embedded.URL()
		parts = append(parts, embeddedPostgres(embedded, log))
	} else {
		plane.keyCommand = "DATABASE_URL=... wrenn key create NAME"
	}
	return daemon.Run(ctx, log, append(parts, plane.component())...)
}
