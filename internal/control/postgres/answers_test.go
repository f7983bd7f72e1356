package postgres_test

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/pgtest"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	s := storeOn(pool)
	key, sum := control.AnswerKey{Principal: "p", Key: "k"}, [32]byte{1, 2}
	begin := func(lease, keep time.Duration) (control.Answer, bool) {
		t.Helper()
		a, begun, err := s.BeginAnswer(t.Context(), key, sum, lease, keep)
		if err != nil {
			t.Fatal(err)
		}
		return a, begun
	}
	var begun atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, mine := begin(time.Hour, time.Hour); mine {
				begun.Add(1)
			}
		})
	}
	wg.Wait()
	if begun.Load() != 1 {
		t.Fatalf("%d of 8 began, want 1", begun.Load())
	}
	if a, _ := begin(time.Hour, time.Hour); a.Fingerprint != sum || a.Status != 0 || a.Abandoned {
		t.Errorf("under way: %+v", a)
	}
	if _, err := pool.Exec(t.Context(), "UPDATE idempotency_keys SET leased_until = now() - interval '1 second'"); err != nil {
		t.Fatal(err)
	}
	if a, _ := begin(time.Hour, time.Hour); !a.Abandoned {
		t.Errorf("past its lease: %+v, want abandoned", a)
	}
	if err := s.RenewAnswer(t.Context(), key, time.Hour); err != nil {
		t.Fatal(err)
	}
	if a, _ := begin(time.Hour, time.Hour); a.Abandoned {
		t.Error("abandoned after its lease was renewed")
	}
	want := control.Answer{Status: 201, Header: map[string]string{"Location": "/x"}, Body: []byte{0, 0xff, 'a'}}
	if err := s.KeepAnswer(t.Context(), key, want); err != nil {
		t.Fatal(err)
	}
	if err := s.DropAnswer(t.Context(), key); err != nil { // too late: it is kept
		t.Fatal(err)
	}
	if a, mine := begin(time.Hour, time.Hour); mine || a.Status != 201 || a.Header["Location"] != "/x" || !bytes.Equal(a.Body, want.Body) || a.Abandoned {
		t.Errorf("kept: %+v, begun %t", a, mine)
	}
	if _, err := pool.Exec(t.Context(), "UPDATE idempotency_keys SET expires_at = now() - interval '1 second'"); err != nil {
		t.Fatal(err)
	}
	if a, mine := begin(time.Hour, time.Hour); !mine || a.Status != 0 {
		t.Errorf("expired: %+v, begun %t, want it begun anew", a, mine)
	}
	if err := s.DropAnswer(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if _, mine := begin(time.Hour, time.Hour); !mine {
		t.Error("a dropped key is still taken")
	}
	key.Principal = "other"
	if _, mine := begin(time.Hour, time.Hour); !mine {
		t.Error("the key of one caller is taken by another's")
	}
}

func TestTrimAnswers(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	s := storeOn(pool)
	for i := range 10 {
		key := control.AnswerKey{Key: fmt.Sprint(i)}
		if _, _, err := s.BeginAnswer(t.Context(), key, [32]byte{}, time.Hour, time.Hour); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			continue // stays under way
		}
		if err := s.KeepAnswer(t.Context(), key, control.Answer{Status: 200, Body: make([]byte, 100)}); err != nil {
			t.Fatal(err)
		}
	}
	count := func() (n int) {
		t.Helper()
		if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM idempotency_keys").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, c := range []struct {
		rows  int
		bytes int64
		want  int
	}{{100, 1000, 10}, {6, 1000, 7}, {100, 300, 4}, {0, 0, 1}} {
		if err := s.TrimAnswers(t.Context(), c.rows, c.bytes); err != nil {
			t.Fatal(err)
		}
		if got := count(); got != c.want {
			t.Errorf("trimmed to %d rows and %d bytes: %d left, want %d", c.rows, c.bytes, got, c.want)
		}
	}
	if _, err := pool.Exec(t.Context(), "UPDATE idempotency_keys SET expires_at = now()"); err != nil {
		t.Fatal(err)
	}
	if err := s.TrimAnswers(t.Context(), 100, 1000); err != nil || count() != 0 {
		t.Errorf("expired rows stay: %d, %v", count(), err)
	}
}
