// Package pgtest gives each test a real PostgreSQL database of its own.
//
// Tests of any package call [New] or [Open], and their TestMain calls [Main].
// The first New of a test process starts a temporary server from the
// distribution's binaries and migrates a template database; every New clones
// that. With WRENN_TEST_DATABASE_URL set, the server there is used instead. The
// package is never part of a product.
package pgtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/wrenn-dev/wrenn/internal/control/postgres"
)

// setupTimeout bounds everything that is not the test's own.
const setupTimeout = time.Minute

// server is a running server with a migrated template database.
type server struct {
	// admin is the URL of a database from which others are made.
	admin *url.URL
	// template is the name of the database to clone.
	template string
	// stop ends the server that start began.
	stop func()
}

// shared starts the server once for the process.
var shared struct {
	once sync.Once
	*server
	err error
}

// Main runs the tests of a package and then stops the server, if one was
// started. Call it from TestMain.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run is Main for a TestMain that has more to do; it returns the exit code.
func Run(m *testing.M) int {
	code := m.Run()
	if shared.server != nil {
		shared.stop()
	}
	return code
}

// New returns the URL of a fresh, migrated database that is dropped when the
// test ends. The test is skipped when there is no PostgreSQL, and fails instead
// when WRENN_REQUIRE lists "pg".
func New(t testing.TB) string {
	t.Helper()
	return fresh(t, func(s *server) string { return s.template })
}

// NewEmpty is New with a database that nothing has migrated.
func NewEmpty(t testing.TB) string {
	t.Helper()
	return fresh(t, func(*server) string { return "template0" })
}

// fresh clones the database that template names.
func fresh(t testing.TB, template func(*server) string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("-short runs no PostgreSQL")
	}
	shared.once.Do(func() { shared.server, shared.err = start() })
	if shared.err != nil {
		if slices.Contains(strings.Split(os.Getenv("WRENN_REQUIRE"), ","), "pg") {
			t.Fatalf("PostgreSQL is required: %v", shared.err)
		}
		t.Skipf("no PostgreSQL: %v", shared.err)
	}
	name := "wrenn_test_" + strings.ToLower(rand.Text())
	if err := shared.exec("CREATE DATABASE " + name + " TEMPLATE " + template(shared.server)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shared.exec("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	return shared.urlOf(name)
}

// Open returns a Store on a fresh database, closed when the test ends.
func Open(t testing.TB) *postgres.Store {
	t.Helper()
	return postgres.New(Pool(t))
}

// Pool returns a pool on a fresh database, closed when the test ends.
func Pool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(context.Background(), New(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func start() (*server, error) {
	s := &server{template: "wrenn_template_" + strings.ToLower(rand.Text()), stop: func() {}}
	if given := os.Getenv("WRENN_TEST_DATABASE_URL"); given != "" {
		u, err := url.Parse(given)
		if err != nil {
			return nil, fmt.Errorf("WRENN_TEST_DATABASE_URL: %w", err)
		}
		s.admin = u
	} else {
		c, err := startCluster()
		if err != nil {
			return nil, err
		}
		s.stop = c.stop
		if s.admin, err = c.url(); err != nil {
			s.stop()
			return nil, err
		}
	}
	if err := s.makeTemplate(); err != nil {
		s.stop()
		return nil, err
	}
	stopServer := s.stop
	s.stop = func() {
		if err := s.exec("DROP DATABASE " + s.template); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest:", err)
		}
		stopServer()
	}
	return s, nil
}

// makeTemplate migrates a database and leaves it without connections, so that
// it can be cloned.
func (s *server) makeTemplate() error {
	if err := s.exec("CREATE DATABASE " + s.template); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	pool, err := pgxpool.New(ctx, s.urlOf(s.template))
	if err != nil {
		return err
	}
	defer pool.Close()
	return postgres.Migrate(ctx, pool, slog.New(slog.DiscardHandler))
}

// urlOf returns the URL of another database of the same server.
func (s *server) urlOf(name string) string {
	u := *s.admin
	u.Path = "/" + name
	return u.String()
}

func (s *server) exec(sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.admin.String())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}
