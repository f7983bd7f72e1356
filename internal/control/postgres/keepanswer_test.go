package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/pgtest"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// TestKeepAnswerOverBrokenConnections: an answer is kept although the connections
// of the pool have ended, as they do when the database restarts.
func TestKeepAnswerOverBrokenConnections(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	s := storeOn(pool)
	key := control.AnswerKey{Principal: "p", Key: "k"}
	if _, begun, err := s.BeginAnswer(t.Context(), key, [32]byte{1}, time.Hour, time.Hour); err != nil || !begun {
		t.Fatalf("begun %t, %v", begun, err)
	}
	admin, err := pgx.ConnectConfig(t.Context(), pool.Config().ConnConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close(context.WithoutCancel(t.Context())) }()
	if _, err := admin.Exec(t.Context(), `SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid()`); err != nil {
		t.Fatal(err)
	}
	if err := s.KeepAnswer(t.Context(), key, control.Answer{Status: 201, Body: []byte("kept")}); err != nil {
		t.Fatalf("keep: %v", err)
	}
	a, begun, err := s.BeginAnswer(t.Context(), key, [32]byte{1}, time.Hour, time.Hour)
	if err != nil || begun || a.Status != 201 || string(a.Body) != "kept" {
		t.Errorf("the answer is %+v, begun %t, %v; want the kept one", a, begun, err)
	}
}

// TestKeepAnswerEndsWithItsContext: a database that stays away is told of once
// the time is up.
func TestKeepAnswerEndsWithItsContext(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	s := storeOn(pool)
	if _, err := pool.Exec(t.Context(), "SET default_transaction_read_only = on"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := s.KeepAnswer(ctx, control.AnswerKey{Key: "k"}, control.Answer{Status: 200})
	if !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.Timeout) {
		t.Errorf("the error is %v, want Unavailable or Timeout", err)
	}
}
