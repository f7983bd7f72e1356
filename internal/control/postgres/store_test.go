package postgres_test

import (
	"context"
	"log/slog"
	"regexp"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/pgtest"
	"github.com/wrenn-dev/wrenn/internal/control/storetest"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// The helpers of the contract's suite.
var (
	host, newRow, insert = storetest.Host, storetest.NewRow, storetest.Insert
)

// TestContract runs the suite that the store in memory runs too.
func TestContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) control.Store { return pgtest.Open(t) })
}

// TestTemplates runs the suite of templates that the store in memory runs too.
func TestTemplates(t *testing.T) {
	t.Parallel()
	storetest.RunTemplates(t, func(t *testing.T) (control.Store, templates.Store) {
		s := pgtest.Open(t)
		return s, s.Templates()
	})
}

// TestChecksEqualGo reads the CHECK constraints back and compares the words in
// them with those of the Go types.
func TestChecksEqualGo(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	for name, want := range map[string][]string{
		"sandboxes_state_check":        words(sandbox.States()),
		"sandboxes_stop_reason_check":  words(sandbox.StopReasons()),
		"sandboxes_on_timeout_check":   words([]sandbox.TimeoutAction{sandbox.TimeoutDestroy, sandbox.TimeoutPause}),
		"snapshots_status_check":       words(control.SnapshotStatuses()),
		"snapshots_kind_check":         words(control.SnapshotKinds()),
		"template_builds_status_check": words([]templates.BuildStatus{templates.Waiting, templates.Building, templates.Ready, templates.Failed}),
	} {
		var def string
		err := pool.QueryRow(t.Context(),
			"SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1", name).Scan(&def)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got []string
		for _, m := range regexp.MustCompile(`'([a-z_]+)'`).FindAllStringSubmatch(def, -1) {
			got = append(got, m[1])
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s lists %q, Go %q", name, got, want)
		}
	}
	// The ended states must be the same on both sides, too.
	var def string
	err := pool.QueryRow(t.Context(),
		"SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'sandboxes_ended_check'").Scan(&def)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sandbox.States() {
		if in := regexp.MustCompile(`'` + string(s) + `'`).MatchString(def); in != s.Ended() {
			t.Errorf("%s: the database says ended %t, Go %t", s, in, s.Ended())
		}
	}
}

func words[S ~string](list []S) []string {
	var out []string
	for _, s := range list {
		out = append(out, string(s))
	}
	slices.Sort(out)
	return out
}

func TestOpenTwiceAndAtOnce(t *testing.T) {
	t.Parallel()
	// A database without anything in it, not a clone.
	empty := pgtest.New(t)
	pool, err := pgxpool.New(t.Context(), empty)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.Exec(t.Context(), "DROP SCHEMA public CASCADE; CREATE SCHEMA public"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := postgres.Open(context.Background(), empty, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
		})
	}
	wg.Wait()
	s, err := postgres.Open(t.Context(), empty, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal("again:", err)
	}
	defer s.Close()
	host(t, s, "h", 1)
	insert(t, s, newRow("h"))
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	for url, reason := range map[string]string{
		"postgres://%zz":                     "invalid_database_url",
		"postgres:///x?host=/does/not/exist": "database_unavailable",
	} {
		_, err := postgres.Open(t.Context(), url, slog.New(slog.DiscardHandler))
		if fault.ReasonOf(err) != reason {
			t.Errorf("%s: %v, want %s", url, err, reason)
		}
	}
}

func TestDeadDatabaseIsNotNotFound(t *testing.T) {
	t.Parallel()
	s := pgtest.Open(t)
	s.Close()
	if _, err := s.Get(t.Context(), "abc"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Get on a closed database: %v, want Unavailable", err)
	}
	if s.Ping(t.Context()) == nil {
		t.Error("Ping on a closed database succeeds")
	}
}

func storeOn(pool *pgxpool.Pool) *postgres.Store { return postgres.New(pool) }
