package postgres_test

import (
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/pgtest"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestListPages walks pages while rows come and go: what was there throughout
// is seen once, newest first.
func TestListPages(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	s := storeOn(pool)
	host(t, s, "h", 100)
	const n = 10
	var want []sandbox.ID
	for range n {
		want = append([]sandbox.ID{insert(t, s, newRow("h")).ID}, want...)
	}
	// Rows of one instant are ordered by id.
	if _, err := pool.Exec(t.Context(), "UPDATE sandboxes SET created_at = (SELECT min(created_at) FROM sandboxes) WHERE id = ANY ($1)",
		[]string{string(want[n-1]), string(want[n-2]), string(want[n-3])}); err != nil {
		t.Fatal(err)
	}
	all, cursor, err := s.List(t.Context(), control.Filter{})
	if err != nil || cursor != "" || len(all) != n {
		t.Fatalf("List: %d rows, cursor %q, %v", len(all), cursor, err)
	}
	var got []sandbox.ID
	for {
		page, next, err := s.List(t.Context(), control.Filter{Limit: 3, Cursor: cursor})
		if err != nil || len(page) > 3 {
			t.Fatalf("page of %d, %v", len(page), err)
		}
		for _, row := range page {
			got = append(got, row.ID)
		}
		if next == "" {
			break
		}
		cursor = next
		insert(t, s, newRow("h")) // newer than every page to come
	}
	if len(got) != n {
		t.Fatalf("pages gave %d rows, want %d", len(got), n)
	}
	for i := range all {
		if got[i] != all[i].ID {
			t.Errorf("place %d: %s by pages, %s at once", i, got[i], all[i].ID)
		}
	}
}

func TestListFilter(t *testing.T) {
	t.Parallel()
	s := pgtest.Open(t)
	host(t, s, "h", 100)
	other := newRow("h")
	other.Spec.Template = "other"
	insert(t, s, other)
	walk(t, s, insert(t, s, newRow("h")), sandbox.Running)
	walk(t, s, insert(t, s, newRow("h")), sandbox.Running, sandbox.Pausing) // shown as running
	walk(t, s, insert(t, s, newRow("h")), sandbox.Stopping)                 // shown as stopped
	for name, c := range map[string]struct {
		f    control.Filter
		want int
	}{
		"all":          {control.Filter{}, 4},
		"running":      {control.Filter{Statuses: []sandbox.Status{sandbox.StatusRunning}}, 2},
		"two statuses": {control.Filter{Statuses: []sandbox.Status{sandbox.StatusRunning, sandbox.StatusStopped}}, 3},
		"template":     {control.Filter{Template: "other"}, 1},
		"both":         {control.Filter{Template: "other", Statuses: []sandbox.Status{sandbox.StatusRunning}}, 0},
	} {
		rows, _, err := s.List(t.Context(), c.f)
		if err != nil || len(rows) != c.want {
			t.Errorf("%s: %d rows, %v, want %d", name, len(rows), err, c.want)
		}
	}
	for name, f := range map[string]control.Filter{
		"status": {Statuses: []sandbox.Status{"pausing"}},
		"limit":  {Limit: -1},
		"cursor": {Cursor: "bm9uc2Vuc2U"},
		"base64": {Cursor: "%%%"},
	} {
		if _, _, err := s.List(t.Context(), f); !fault.Is(err, fault.Invalid) {
			t.Errorf("bad %s: %v, want Invalid", name, err)
		}
	}
}

func TestTouch(t *testing.T) {
	t.Parallel()
	s := pgtest.Open(t)
	host(t, s, "h", 2)
	row := insert(t, s, newRow("h"))
	late := time.Now().UTC().Truncate(time.Microsecond)
	for _, at := range []time.Time{late, late.Add(-time.Hour)} {
		if err := s.Touch(t.Context(), map[sandbox.ID]time.Time{row.ID: at, "gone": at}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Get(t.Context(), row.ID)
	if err != nil || got.LastActiveAt == nil || !got.LastActiveAt.Equal(late) || !got.UpdatedAt.Equal(row.UpdatedAt) {
		t.Errorf("%+v, %v, want last active %s", got, err, late)
	}
}

func TestRetention(t *testing.T) {
	t.Parallel()
	s := pgtest.Open(t)
	host(t, s, "h", 10)
	live := insert(t, s, newRow("h"))
	for range 3 {
		walk(t, s, insert(t, s, newRow("h")), sandbox.Stopped)
	}
	walk(t, s, insert(t, s, newRow("h")), sandbox.Error)
	for _, c := range []struct {
		age         time.Duration
		limit, want int
	}{{time.Hour, 10, 0}, {0, 3, 3}, {0, 3, 1}, {0, 3, 0}} {
		n, err := s.DeleteEnded(t.Context(), c.age, c.limit)
		if err != nil || n != c.want {
			t.Errorf("older than %s, at most %d: deleted %d, %v, want %d", c.age, c.limit, n, err, c.want)
		}
	}
	if _, err := s.Get(t.Context(), live.ID); err != nil {
		t.Error("a live row was deleted:", err)
	}
}
