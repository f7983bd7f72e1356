package main

import (
	"context"
	"log/slog"

	"github.com/wrenn-dev/wrenn/internal/control/postgres"
	"github.com/wrenn-dev/wrenn/internal/daemon"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/pgserver"
)

// embeddedPostgres is the component that runs the embedded server.
func embeddedPostgres(cfg pgserver.Config, log *slog.Logger) daemon.Component {
	return daemon.Component{
		Name:        "postgres",
		StopTimeout: pgserver.StopTimeout,
		Run: func(ctx context.Context, ready func()) error {
			server, err := pgserver.Open(ctx, cfg, log)
			if err != nil {
				return err
			}
			defer server.Close()
			return server.Run(ctx, ready)
		},
	}
}

// withStore calls do with the database: the given one, or else the embedded
// one, which is started for the call if wrenn up does not run.
func withStore(ctx context.Context, dirs layout, db databaseSettings, do func(*postgres.Store) error) error {
	log := slog.New(slog.DiscardHandler)
	if db.url.value != "" {
		return doWithStore(ctx, db.url.value, log, do)
	}
	if err := dirs.make(); err != nil {
		return err
	}
	cfg := dirs.postgres(db)
	server, err := pgserver.Open(ctx, cfg, log)
	if fault.Is(err, fault.Exists) {
		return doWithStore(ctx, cfg.URL(), log, do) // wrenn up runs it
	}
	if err != nil {
		return err
	}
	defer server.Close()
	if err := refuseOtherDatabase(dirs); err != nil {
		return err
	}
	return whileServing(ctx, server, func(ctx context.Context) error {
		return doWithStore(ctx, server.URL(), log, do)
	})
}

// refuseOtherDatabase fails if wrenn up runs without the embedded database, because
// it would never see a change there.
func refuseOtherDatabase(dirs layout) error {
	up, err := daemon.Holder(dirs.lock())
	if err != nil || up == nil {
		return err
	}
	up.Close()
	return fault.New(fault.WrongState, "other_database",
		"the wrenn up that uses %s has another database: set DATABASE_URL to the same", dirs.root)
}

func doWithStore(ctx context.Context, url string, log *slog.Logger, do func(*postgres.Store) error) error {
	store, err := postgres.Open(ctx, url, log)
	if err != nil {
		return err
	}
	defer store.Close()
	return do(store)
}

// whileServing runs server around do.
func whileServing(ctx context.Context, server *pgserver.Server, do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	ready, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		ended <- server.Run(ctx, func() {
			select {
			case ready <- struct{}{}:
			default: // it was restarted meanwhile
			}
		})
	}()
	var err error
	select {
	case <-ready:
		err = do(ctx)
		cancel()
	case err = <-ended:
		cancel()
		return err
	}
	if stopErr := <-ended; err == nil {
		err = stopErr
	}
	return err
}
