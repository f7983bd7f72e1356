package storetest

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// testNameIsUniqueAmongLive: of creates at once with one name one wins; the
// name is free again once its sandbox has ended; no name is no bound.
func testNameIsUniqueAmongLive(t *testing.T, open Open) {
	s := open(t)
	Host(t, s, "h", 100)
	var won, taken atomic.Int32
	var winner atomic.Pointer[control.Sandbox]
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			row := NewRow("h")
			row.Name = "web"
			row, err := s.Insert(t.Context(), row)
			switch {
			case err == nil:
				won.Add(1)
				winner.Store(&row)
			case fault.Is(err, fault.Exists) && fault.ReasonOf(err) == control.ReasonNameTaken:
				taken.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || taken.Load() != 7 {
		t.Fatalf("%d inserts won and %d were told name_taken, want 1 and 7", won.Load(), taken.Load())
	}
	for range 2 {
		Insert(t, s, NewRow("h")) // without a name
	}
	ended := Walk(t, s, *winner.Load(), sandbox.Stopping, sandbox.Stopped)
	again := NewRow("h")
	again.Name = "web"
	again = Insert(t, s, again)
	rows, _, err := s.List(t.Context(), control.Filter{Name: "web"})
	if err != nil || len(rows) != 2 || rows[0].ID != again.ID || rows[1].ID != ended.ID || rows[0].Name != "web" {
		t.Errorf("list by name: %+v, %v, want the live and the ended one", rows, err)
	}
}

func testListByMetadata(t *testing.T, open Open) {
	s := open(t)
	Host(t, s, "h", 100)
	for _, m := range []map[string]string{{"job": "17", "team": "a"}, {"job": "17"}, {"job": "18"}, nil} {
		row := NewRow("h")
		row.Metadata = m
		Insert(t, s, row)
	}
	for _, c := range []struct {
		want map[string]string
		n    int
	}{
		{nil, 4},
		{map[string]string{"job": "17"}, 2},
		{map[string]string{"job": "17", "team": "a"}, 1},
		{map[string]string{"job": "17", "team": "b"}, 0},
		{map[string]string{"job": ""}, 0},
		{map[string]string{`a"b\`: "'; --"}, 0},
	} {
		rows, _, err := s.List(t.Context(), control.Filter{Metadata: c.want})
		if err != nil || len(rows) != c.n {
			t.Errorf("metadata %v: %d rows, %v, want %d", c.want, len(rows), err, c.n)
		}
	}
}
