package postgres_test

import (
	"database/sql"
	"io/fs"
	"log/slog"
	"os"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/pgtest"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// rowsOfOld are a host and sandboxes as a server whose newest migration was
// oldVersion left them.
const (
	oldVersion = 2
	rowsOfOld  = `
INSERT INTO hosts (id, capacity_vcpus, capacity_memory_mb, agent_version, driver, acceleration, isolation)
VALUES ('one', 8, 4096, 'old', 'qemu', 'tcg', 'hardware');
INSERT INTO sandboxes (id, generation, state, template, vcpus, memory_mb, disk_mb, timeout_sec, host_id, metadata)
VALUES ('aaaaaaaaaaaaaaaaaaaa', 1, 'running', 'minimal', 1, 256, 512, 300, 'one', '{"k":"v"}'),
       ('bbbbbbbbbbbbbbbbbbbb', 2, 'pausing', 'minimal', 1, 256, 512, 300, 'one', '{}');
INSERT INTO sandboxes (id, generation, state, stop_reason, template, vcpus, memory_mb, disk_mb, timeout_sec, host_id, ended_at)
VALUES ('cccccccccccccccccccc', 1, 'stopped', 'destroyed', 'minimal', 1, 256, 512, 300, 'one', now());`
)

// TestOldDatabaseIsBroughtUpToDate with the rows that are in it.
func TestOldDatabaseIsBroughtUpToDate(t *testing.T) {
	t.Parallel()
	url := pgtest.New(t)
	goBack(t, url)
	store, err := postgres.Open(t.Context(), url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	rows, _, err := store.List(t.Context(), control.Filter{})
	if err != nil || len(rows) != 3 {
		t.Fatalf("%d rows, %v; want 3", len(rows), err)
	}
	for _, row := range rows {
		if row.Name != "" || row.Server != 0 || row.DiskFull {
			t.Errorf("%s has news that nobody told: %+v", row.ID, row)
		}
	}
	old, err := store.Get(t.Context(), "aaaaaaaaaaaaaaaaaaaa")
	if err != nil || old.Metadata["k"] != "v" {
		t.Fatalf("%+v, %v", old, err)
	}
	moved, won, err := store.Move(t.Context(), control.Move{Ref: old.Ref(), From: sandbox.Running, To: sandbox.Pausing, Server: 7})
	if err != nil || !won || moved.Server != 7 {
		t.Errorf("an old row cannot be moved: %+v, %t, %v", moved, won, err)
	}
	old.ID, old.Name, old.State, old.Server = sandbox.NewID(), "a-name", sandbox.Pending, 7
	if _, err := store.Insert(t.Context(), old); err != nil {
		t.Errorf("a row beside the old ones: %v", err)
	}
	if err := store.Ping(t.Context()); err != nil {
		t.Errorf("not ready: %v", err)
	}
}

// goBack makes the database one of oldVersion with rows in it.
func goBack(t *testing.T, url string) {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	files, err := fs.Sub(os.DirFS("."), "migrations")
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithAllowOutofOrder(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.DownTo(t.Context(), oldVersion); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), rowsOfOld); err != nil {
		t.Fatal(err)
	}
}
