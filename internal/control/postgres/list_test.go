package postgres_test

import (
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/pgtest"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestListPages walks pages while rows come and go: a row that was there throughout
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
