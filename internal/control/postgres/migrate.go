package postgres

import (
	"context"
	"embed"
	"io/fs"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migrationLock is the key of the advisory lock that serialises migration, a
// number that nothing else in the database uses ("wrenn" in ASCII).
const migrationLock = 0x7772656e6e

// unlockTimeout bounds the release of the lock when ctx has ended.
const unlockTimeout = 5 * time.Second

// Migrate brings the schema up to date. Servers that start at once take turns.
// It needs two connections of the pool.
func Migrate(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return faultOf(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", migrationLock); err != nil {
		return faultOf(err)
	}
	defer func() {
		// A lock that outlives ctx would go back to the pool with its session.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockTimeout)
		defer cancel()
		if _, err := conn.Exec(ctx, "SELECT pg_advisory_unlock($1)", migrationLock); err != nil {
			_ = conn.Conn().Close(ctx) // the server frees the lock of a closed session
		}
	}()
	return migrateLocked(ctx, pool, log)
}

// refuseNewer fails if a later version of Wrenn has migrated the database,
// whose schema this version would misread.
func refuseNewer(ctx context.Context, provider *goose.Provider) error {
	have, err := provider.GetDBVersion(ctx)
	if err != nil {
		return faultOf(err)
	}
	var known int64
	for _, s := range provider.ListSources() {
		known = max(known, s.Version)
	}
	if have > known {
		return fault.New(fault.WrongState, "data_newer",
			"the database has schema version %d, and this wrenn knows versions up to %d: start the wrenn version that migrated it, or a later one", have, known)
	}
	return nil
}

func migrateLocked(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger) error {
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return faultOf(err)
	}
	sqlDB := stdlib.OpenDBFromPool(pool)
	defer sqlDB.Close()
	// A database may have met a later migration before an earlier one was
	// merged; the migrations do not depend on their order in that case.
	provider, err := goose.NewProvider(goose.DialectPostgres, sqlDB, files, goose.WithAllowOutofOrder(true))
	if err != nil {
		return faultOf(err)
	}
	if err := refuseNewer(ctx, provider); err != nil {
		return err
	}
	done, err := provider.Up(ctx)
	for _, m := range done {
		log.Info("database migrated", "migration", m.Source.Path, "took", m.Duration)
	}
	if err != nil {
		return fault.Wrap(err, fault.Internal, "migration_failed", "the database's schema could not be brought up to date")
	}
	return nil
}
