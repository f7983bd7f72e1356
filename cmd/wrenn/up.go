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
	host     hostSettings
}

func (p program) addUp() {
	cfg := new(upConfig)
	cmd := &cobra.Command{
		Use:   "up [flags]",
		Short: "Run everything on this machine: control plane, host agent, database",
		Long: "Run everything on this machine in one process tree: the control plane with its REST API, the host agent and,\n" +
			"unless DATABASE_URL names a server, a PostgreSQL of its own. What is missing of guest kernel and template is\n" +
			"prepared first. Sandboxes go on running when it ends, and the next one takes them over; `wrenn down` pauses\n" +
			"them before it stops the server.\n\n" +
			"The API asks for a key. One is made in DATA-DIR/api-key, which root alone may read and where the other wrenn\n" +
			"commands find it; `wrenn key create` makes more, also while the server runs.\n\n" +
			"Each flag can be given as an environment variable: --data-dir as WRENN_DATA_DIR.",
		Example: "  sudo wrenn up\n  sudo wrenn up --data-dir /srv/wrenn --listen 127.0.0.1:9000",
	}
	p.add(p.app.Root(), cmd, config{&cfg.data, &cfg.dataFS, &cfg.log, &cfg.database, &cfg.api, &cfg.host},
		func(ctx context.Context, _ []string) error {
			log := cfg.log.logger(p.io.Err)
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
		api: cfg.api, databaseURL: cfg.database.url.value, log: log,
		hosts:      []hostclient.Member{{ID: localHost, Address: dirs.agentAddress()}},
		keyCommand: "wrenn key create --data-dir " + doctor.Quote(dirs.root) + " NAME",
		keyFile:    dirs.apiKey(),
	}
	if err := plane.tryListen(ctx); err != nil {
		return err
	}
	parts, err := spaceKeepers(dirs, log)
	if err != nil {
		return err
	}
	// The agent comes before the database: running sandboxes and their clocks
	// do not wait for that.
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
