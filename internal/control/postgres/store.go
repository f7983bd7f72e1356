package postgres

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/db"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// connectTimeout bounds one attempt to connect to the server.
const connectTimeout = 5 * time.Second

// Store is a database. It is safe for concurrent use.
//
// Invariants: only Move changes a state, and only MoveSnapshot a status, by
// compare-and-set; a transaction that takes capacity on a host holds the lock on
// that host's row while it reads and writes, so the sum never exceeds the capacity
// that SaveHost recorded; a change is on disk before it is acknowledged to a caller
// of the API: only a row's insertion and its move to pausing do not wait for that.
type Store struct {
	pool   *pgxpool.Pool
	q      *db.Queries
	writes *writeHealth
}

var _ control.Store = (*Store)(nil)

// Open connects to the database at url, brings its schema up to date, and
// returns it. The caller closes it. url is a connection string as libpq knows
// it; it may hold a password and is never logged.
func Open(ctx context.Context, url string, log *slog.Logger) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		// The cause may quote the password.
		return nil, fault.New(fault.Invalid, "invalid_database_url", "the database URL cannot be parsed")
	}
	cfg.ConnConfig.ConnectTimeout = connectTimeout
	cfg.ConnConfig.RuntimeParams["application_name"] = "wrenn"
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, faultOf(err)
	}
	if err := Migrate(ctx, pool, log); err != nil {
		pool.Close()
		return nil, err
	}
	return New(pool), nil
}

// New returns a Store on a pool whose database has been migrated. The pool
// belongs to the Store.
func New(pool *pgxpool.Pool) *Store {
	return &Store{pool: pool, q: db.New(pool), writes: newWriteHealth()}
}

// Close waits for queries under way and closes all connections.
func (s *Store) Close() { s.pool.Close() }

// inTx runs fn in a transaction, which is committed if fn returns nil.
func (s *Store) inTx(ctx context.Context, fn func(*db.Queries) error) error {
	return faultOf(pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return fn(s.q.WithTx(tx)) }))
}
