package e2b

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// shelf is a control plane that lists rows, the newest first, and counts the reads.
type shelf struct {
	API
	rows  []control.Sandbox
	reads int
}

func (s *shelf) List(_ context.Context, f control.Filter) ([]control.Sandbox, string, error) {
	s.reads++
	from, err := 0, error(nil)
	if f.Cursor != "" {
		from, err = strconv.Atoi(f.Cursor)
	}
	if err != nil || f.Limit < 1 || from > len(s.rows) {
		return nil, "", fault.New(fault.Invalid, "invalid_cursor", "no page %q of %d rows", f.Cursor, f.Limit)
	}
	to := min(from+f.Limit, len(s.rows))
	if to == len(s.rows) {
		return s.rows[from:], "", nil
	}
	return s.rows[from:to], strconv.Itoa(to), nil
}

// shelfOf returns a shelf with n sandboxes, of which every third is paused.
func shelfOf(n int) *shelf {
	s := &shelf{}
	begin := time.UnixMicro(1_800_000_000_000_000).UTC()
	for i := range n {
		row := control.Sandbox{
			ID: sandbox.ID(fmt.Sprintf("%c%c%c%017d", 'a'+i/676%26, 'a'+i/26%26, 'a'+i%26, 0)), State: sandbox.Running, CreatedAt: begin.Add(-time.Duration(i) * time.Second),
			Spec: sandbox.Spec{Template: sandbox.DefaultTemplate},
		}
		if i%3 == 0 {
			row.State = sandbox.Paused
		}
		s.rows = append(s.rows, row)
	}
	return s
}

// get returns the ids of a page, and the token of the next.
func (s *shelf) get(t *testing.T, path string) (ids []string, next string) {
	t.Helper()
	w := httptest.NewRecorder()
	New(Config{Sandboxes: s, Next: http.NotFoundHandler(), Log: quiet(), Enter: anyone}).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	var page []struct {
		SandboxID string `json:"sandboxID"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%s: got %d %.200s, want a list", path, w.Code, w.Body)
	}
	for _, row := range page {
		ids = append(ids, row.SandboxID)
	}
	return ids, w.Header().Get(headerNext)
}

// TestPagesReadOnFromTheirPlace walks lists in both orders: each row comes once, and a
// page in descending order costs the same wherever it is.
func TestPagesReadOnFromTheirPlace(t *testing.T) {
	const rows, limit = 1050, 7
	for order, most := range map[string]int{"desc": 2, "asc": rows/maxPage + 1} {
		s := shelfOf(rows)
		var want, got []string
		for _, row := range s.rows {
			if row.State == sandbox.Running {
				want = append(want, string(row.ID))
			}
		}
		if order == "asc" {
			slices.Reverse(want)
		}
		for token := ""; ; {
			before := s.reads
			ids, next := s.get(t, fmt.Sprintf("/v2/sandboxes?state=running&order=%s&limit=%d&nextToken=%s", order, limit, url.QueryEscape(token)))
			if reads := s.reads - before; reads > most {
				t.Fatalf("%s: a page after %d rows read %d pages of the store, want at most %d", order, len(got), reads, most)
			}
			if got = append(got, ids...); next == "" {
				break
			}
			if len(ids) != limit || len(got) > rows {
				t.Fatalf("%s: got a page of %d rows after %d, want %d", order, len(ids), len(got), limit)
			}
			token = next
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %d rows, want %d in order", order, len(got), len(want))
		}
	}
}

// TestTheListOfOldClientsIsBounded: it has no pages.
func TestTheListOfOldClientsIsBounded(t *testing.T) {
	s := shelfOf(2 * maxRunning)
	if ids, _ := s.get(t, "/sandboxes"); len(ids) != maxRunning || ids[0] != string(s.rows[1].ID) {
		t.Errorf("got %d sandboxes, want the newest %d", len(ids), maxRunning)
	}
	if most := 2 * maxRunning / maxPage; s.reads >= most {
		t.Errorf("read %d pages of the store, want fewer than %d", s.reads, most)
	}
}

// TestEveryRouteNeedsAKey: a caller without one reaches no handler, except that of the
// health of the server.
func TestEveryRouteNeedsAKey(t *testing.T) {
	noKey := func(r *http.Request) (context.Context, error) {
		return r.Context(), fault.New(fault.Unauthenticated, "missing_api_key", "no key")
	}
	h := New(Config{Enter: noKey, Next: http.NotFoundHandler(), Log: quiet()})
	parameter := regexp.MustCompile(`\{[^}]+\}|\*`)
	routes := 0
	err := chi.Walk(h.(*server).mux, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if routes++; route == "/health" {
			return nil
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, parameter.ReplaceAllString(route, "x"), nil))
		if w.Code != http.StatusUnauthorized && method != http.MethodOptions {
			t.Errorf("%s %s: got %d without a key, want 401", method, route, w.Code)
		}
		return nil
	})
	if err != nil || routes < 30 {
		t.Errorf("walked %d routes (%v), want all", routes, err)
	}
}
