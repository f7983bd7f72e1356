package postgres_test

import (
	"context"
	"database/sql"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/wrenn-dev/wrenn/internal/control/postgres"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/pgtest"
)

// TestMigrateFilled brings a database of the first schema with rows in it up
// to date, down again, and up.
func TestMigrateFilled(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	s := storeOn(pool)
	host(t, s, "h", 4)
	row := insert(t, s, newRow("h"))
	down(t, stdlib.OpenDBFromPool(pool))
	if err := postgres.Migrate(t.Context(), pool, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	pool.Reset() // prepared statements know the old columns
	got, err := s.Get(t.Context(), row.ID)
	if diff := cmp.Diff(row, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

// down takes the last migration back.
func down(t *testing.T, db *sql.DB) {
	t.Helper()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, postgres.Migrations())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.Down(context.Background()); err != nil {
		t.Fatal(err)
	}
}
