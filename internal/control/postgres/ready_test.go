package postgres_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/pgtest"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// TestAwayIsUnavailable: an error that keeps the database from serving for a while
// is a fault that a caller may try again, and no other error is.
func TestAwayIsUnavailable(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]fault.Kind{
		"08006": fault.Unavailable,                             // connection failure
		"25006": fault.Unavailable,                             // read-only
		"40001": fault.Unavailable, "40P01": fault.Unavailable, // rolled back
		"53100": fault.Unavailable,                             // disk full
		"53200": fault.Unavailable, "53300": fault.Unavailable, // memory, connections
		"55P03": fault.Unavailable,                                                         // lock timeout
		"57014": fault.Unavailable,                                                         // cancelled by an operator
		"57P01": fault.Unavailable, "57P02": fault.Unavailable, "57P03": fault.Unavailable, // shutdown, crash, start
		"58030": fault.Unavailable, "58P01": fault.Unavailable, // I/O error, file missing
		"22P02": fault.Internal, "42P01": fault.Internal, "XX001": fault.Internal,
		"23505": fault.Exists,
	} {
		err := postgres.FaultOf(fmt.Errorf("query: %w", &pgconn.PgError{Code: code}))
		if !fault.Is(err, want) {
			t.Errorf("SQLSTATE %s: %v, want %s", code, err, want)
		}
	}
	for _, broken := range []error{io.ErrUnexpectedEOF, errors.New("conn closed")} {
		if err := postgres.FaultOf(broken); !fault.Is(err, fault.Unavailable) {
			t.Errorf("%v: %v, want unavailable", broken, err)
		}
	}
}

// TestPingNeedsWrites: a database that can only be read is not ready, and is
// again as soon as it takes writes.
func TestPingNeedsWrites(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	s := storeOn(pool)
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	host(t, s, "h", 9)
	readOnly := func(on string) {
		t.Helper()
		var name string
		if err := pool.QueryRow(t.Context(), "SELECT current_database()").Scan(&name); err != nil {
			t.Fatal(err)
		}
		if _, err := pool.Exec(t.Context(), "BEGIN READ WRITE; ALTER DATABASE "+name+" SET default_transaction_read_only = "+on+"; COMMIT"); err != nil {
			t.Fatal(err)
		}
		pool.Reset() // the setting holds for new sessions
	}
	readOnly("on")
	if _, err := s.Insert(t.Context(), newRow("h")); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("insert into a read-only database: %v, want unavailable", err)
	}
	// Not after the second for which the first probe is believed: the failed
	// write has ended that.
	if err := s.Ping(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("ping of a read-only database: %v, want unavailable", err)
	}
	if err := storeOn(pool).Ping(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("ping that has seen no write fail: %v, want unavailable", err)
	}
	readOnly("off")
	if _, err := s.Insert(t.Context(), newRow("h")); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("ping after a write that succeeded: %v", err)
	}
}

// TestLiveServers: a server is live while its session is, and no longer.
func TestLiveServers(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	s := storeOn(pool)
	live := func() []control.ServerID {
		t.Helper()
		found, err := s.LiveServers(t.Context(), []control.ServerID{1 << 40, 7})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	held, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- s.HoldServer(t.Context(), 1<<40, func() { close(held) }) }()
	<-held
	if got := live(); len(got) != 1 || got[0] != 1<<40 {
		t.Errorf("live are %v, want the one that is held", got)
	}
	// The session ends as it does with a killed process: the server closes it.
	if _, err := pool.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_locks
		WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !fault.Is(err, fault.Unavailable) {
		t.Errorf("a broken session: %v, want unavailable", err)
	}
	if got := live(); len(got) != 0 {
		t.Errorf("live are %v, want none", got)
	}
}
