package storetest

import (
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func testListFilter(t *testing.T, open Open) {
	s := open(t)
	Host(t, s, "h", 100)
	other := NewRow("h")
	other.Spec.Template = "other"
	Insert(t, s, other)
	Walk(t, s, Insert(t, s, NewRow("h")), sandbox.Running)
	Walk(t, s, Insert(t, s, NewRow("h")), sandbox.Running, sandbox.Pausing) // shown as running
	Walk(t, s, Insert(t, s, NewRow("h")), sandbox.Stopping)                 // shown as stopped
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

func testTouch(t *testing.T, open Open) {
	s := open(t)
	Host(t, s, "h", 2)
	row := Insert(t, s, NewRow("h"))
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

func testRetention(t *testing.T, open Open) {
	s := open(t)
	Host(t, s, "h", 10)
	live := Insert(t, s, NewRow("h"))
	for range 3 {
		Walk(t, s, Insert(t, s, NewRow("h")), sandbox.Stopped)
	}
	Walk(t, s, Insert(t, s, NewRow("h")), sandbox.Error)
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
