package upgrade

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/pgtest"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/kvmprobe"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func TestMain(m *testing.M) {
	kvmprobe.MaybeChild()
	// The data of older versions is that of microVMs.
	if err := os.Setenv("WRENN_RUNTIME", "microvm"); err != nil {
		panic(err)
	}
	pgtest.Main(m)
}

// restore returns the URL of a database with the recorded content of v0.1.
func restore(t *testing.T) string {
	t.Helper()
	url := pgtest.NewEmpty(t)
	dump, err := os.ReadFile(filepath.Join("testdata", "v0.1", "database.sql"))
	check(t, err)
	execute(t, url, string(dump))
	return url
}

func execute(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	check(t, err)
	defer conn.Close(t.Context())
	_, err = conn.PgConn().Exec(t.Context(), sql).ReadAll()
	check(t, err)
}

// TestDatabaseOfV01 restores the dump, migrates it, and expects each row with
// its state, and that operations continue from there.
func TestDatabaseOfV01(t *testing.T) {
	t.Parallel()
	store, err := postgres.Open(t.Context(), restore(t), slog.New(slog.DiscardHandler))
	check(t, err)
	t.Cleanup(store.Close)
	rows, _, err := store.List(t.Context(), control.Filter{})
	check(t, err)
	states := make(map[sandbox.ID]sandbox.State)
	for _, row := range rows {
		states[row.ID] = row.State
	}
	want := map[sandbox.ID]sandbox.State{
		running: sandbox.Running, pausing: sandbox.Pausing, paused: sandbox.Paused,
		fromSnapshot: sandbox.Paused, creating: sandbox.Pending, destroyed: sandbox.Stopped,
	}
	if diff := cmp.Diff(want, states); diff != "" {
		t.Errorf("rows after the migration (-want +got):\n%s", diff)
	}
	mustKeepFields(t, store)
	mustGoOn(t, store)
}

// mustKeepFields checks columns of v0.1 whose meaning a migration could change.
func mustKeepFields(t *testing.T, store *postgres.Store) {
	t.Helper()
	row, err := store.Get(t.Context(), paused)
	check(t, err)
	if row.Metadata["role"] != "paused" || !row.Spec.AutoResume || row.Spec.OnTimeout != sandbox.TimeoutPause ||
		row.Spec.Timeout != 86000*time.Second || row.Spec.MemoryMB != 512 || row.Source != "restore" || row.HostID != "local" {
		t.Errorf("the paused sandbox is %+v", row)
	}
	fork, err := store.Get(t.Context(), pausing)
	check(t, err)
	if fork.ParentID != running {
		t.Errorf("the fork's parent is %q, want %s", fork.ParentID, running)
	}
	snap, err := store.GetSnapshot(t.Context(), named)
	check(t, err)
	if snap.Name != "ready" || snap.Of.ID != running || snap.Status != control.SnapshotReady || snap.Bytes == 0 {
		t.Errorf("the named snapshot is %+v", snap)
	}
}

// mustGoOn resumes the paused sandbox, as a server does, and ends the
// interrupted create.
func mustGoOn(t *testing.T, store *postgres.Store) {
	t.Helper()
	row, err := store.Get(t.Context(), paused)
	check(t, err)
	moved, won, err := store.Move(t.Context(), control.Move{Ref: row.Ref(), From: sandbox.Paused, To: sandbox.Resuming, Server: 7})
	if err != nil || !won || moved.Server != 7 {
		t.Errorf("move of the paused row to resuming: %+v, won %t, %v", moved, won, err)
	}
	if n, err := store.DeleteEnded(t.Context(), time.Duration(0), 10); err != nil || n != 1 {
		t.Errorf("ended rows deleted: %d, %v; want the destroyed sandbox alone", n, err)
	}
	check(t, store.Ping(t.Context()))
}

// TestNewerDatabaseIsRefused by a version that does not know its schema.
func TestNewerDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	url := restore(t)
	execute(t, url, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)")
	store, err := postgres.Open(t.Context(), url, slog.New(slog.DiscardHandler))
	if err == nil {
		store.Close()
		t.Fatal("a newer database was opened")
	}
	if f := fault.As(err); f.Reason != "data_newer" || f.Kind != fault.WrongState || !strings.Contains(f.Public, "99999") {
		t.Errorf("got %s: %s, want data_newer with the version 99999", f.Reason, f.Public)
	}
	conn, err := pgx.Connect(t.Context(), url)
	check(t, err)
	defer conn.Close(t.Context())
	var migrated bool
	check(t, conn.QueryRow(t.Context(), "SELECT EXISTS (SELECT 1 FROM goose_db_version WHERE version_id = 4)").Scan(&migrated))
	if migrated {
		t.Error("the refused database was migrated")
	}
}
