package control

import (
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestClocksOff goes through the product of states and generations: a host is
// told of clocks only when it is settled where the row is.
func TestClocksOff(t *testing.T) {
	settled := map[sandbox.State]ViewState{sandbox.Running: ViewRunning, sandbox.Paused: ViewPaused}
	for _, s := range situations() {
		if s.row == nil || s.view == nil {
			if clocksOff(s.row, s.view) != (TimeoutChange{}) {
				t.Errorf("%s: clocks of nothing", s)
			}
			continue
		}
		row, view := *s.row, *s.view
		if clocksOff(&row, &view) != (TimeoutChange{}) {
			t.Errorf("%s: equal clocks are told", s)
		}
		row.Spec.Timeout = time.Hour
		got := clocksOff(&row, &view)
		want := settled[row.State] == view.State && (view.Ref.Generation == row.Generation ||
			row.State == sandbox.Paused && view.Ref.Generation < row.Generation)
		if (got != TimeoutChange{}) != want {
			t.Errorf("%s: told %t, want %t", s, !want, want)
		}
		if want && (*got.Idle != time.Hour || got.Lifetime != nil || got.OnTimeout != nil) {
			t.Errorf("%s: told %+v", s, got)
		}
	}
}

func TestSettleSnapshot(t *testing.T) {
	type key struct {
		kind    SnapshotKind
		status  SnapshotStatus
		there   bool
		lasting bool
	}
	named := func(status SnapshotStatus, there, lasting bool) key { return key{KindNamed, status, there, lasting} }
	fork := func(status SnapshotStatus, there, lasting bool) key { return key{KindFork, status, there, lasting} }
	// What is not listed is none. A status of "" is no row.
	want := map[key]snapshotAct{
		named("", true, true): snapDelete, fork("", true, true): snapDelete,

		named(SnapshotCreating, true, false): snapReady, named(SnapshotCreating, true, true): snapReady,
		named(SnapshotCreating, false, true): snapFail,
		named(SnapshotReady, false, true):    snapFail,
		named(SnapshotError, true, false):    snapReady, named(SnapshotError, true, true): snapReady,

		fork(SnapshotCreating, true, true): snapDelete, fork(SnapshotCreating, false, true): snapRemove,
		fork(SnapshotReady, true, true): snapDelete, fork(SnapshotReady, false, true): snapRemove,
		fork(SnapshotError, true, true): snapDelete, fork(SnapshotError, false, true): snapRemove,
	}
	for _, kind := range []SnapshotKind{KindNamed, KindFork} {
		for _, lasting := range []bool{false, true} {
			want[key{kind, SnapshotDeleting, true, lasting}] = snapDelete
			want[key{kind, SnapshotDeleting, false, lasting}] = snapRemove
		}
		for _, status := range append(SnapshotStatuses(), "") {
			for _, there := range []bool{false, true} {
				for _, lasting := range []bool{false, true} {
					k := key{kind, status, there, lasting}
					var row *Snapshot
					var view *SnapshotView
					if status != "" {
						row = &Snapshot{ID: "s", Kind: kind, Status: status}
					}
					if there {
						view = &SnapshotView{ID: "s"}
					}
					expected := want[k]
					if expected == "" {
						expected = snapNone
					}
					if got := settleSnapshot(row, view, lasting); got != expected {
						t.Errorf("%+v: %s, want %s", k, got, expected)
					}
				}
			}
		}
	}
}
