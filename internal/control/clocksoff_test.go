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
			if clockDrift(s.row, s.view) != (TimeoutChange{}) {
				t.Errorf("%s: clocks of nothing", s)
			}
			continue
		}
		row, view := *s.row, *s.view
		if clockDrift(&row, &view) != (TimeoutChange{}) {
			t.Errorf("%s: equal clocks are told", s)
		}
		row.Spec.Timeout = time.Hour
		got := clockDrift(&row, &view)
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

// situation is one combination of a row and a view. Either may be nil.
type situation struct {
	row  *Sandbox
	view *View
}

func (s situation) String() string {
	p := pair{row: s.row, view: s.view}
	return p.rowState() + " " + p.viewState()
}

// situations returns the full product: no row or each state at generation 2; no
// view or each state at generations 1 to 3.
func situations() []situation {
	rows := []*Sandbox{nil}
	for _, state := range sandbox.States() {
		rows = append(rows, &Sandbox{ID: "a", Generation: 2, State: state})
	}
	views := []*View{nil}
	for _, state := range ViewStates() {
		for gen := sandbox.Generation(1); gen <= 3; gen++ {
			views = append(views, &View{Ref: sandbox.Ref{ID: "a", Generation: gen}, State: state})
		}
	}
	var all []situation
	for _, row := range rows {
		for _, view := range views {
			all = append(all, situation{row, view})
		}
	}
	return all
}
