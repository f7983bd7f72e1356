package control

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

var update = flag.Bool("update", false, "rewrite golden files")

// situation is one cell of the full product of what settle can be given.
type situation struct {
	row     *Sandbox
	view    *View
	lasting bool
}

func (s situation) String() string {
	p := pair{row: s.row, view: s.view}
	return fmt.Sprintf("%-11s %-11s lasting=%-5t", p.rowState(), p.viewState(), s.lasting)
}

// situations returns the product: no row or each state at generation 2; no
// view or each state at generations 1 to 3; lasting or not. Ended views carry
// each kind of reason that matters.
func situations() []situation {
	rows := []*Sandbox{nil}
	for _, state := range sandbox.States() {
		rows = append(rows, &Sandbox{ID: "a", Generation: 2, State: state})
	}
	views := []*View{nil}
	for _, state := range ViewStates() {
		for gen := sandbox.Generation(1); gen <= 3; gen++ {
			reasons := []sandbox.StopReason{""}
			if state == ViewStopped {
				reasons = []sandbox.StopReason{sandbox.ReasonExpired, sandbox.ReasonBootFailed, "of_the_future"}
			}
			for _, reason := range reasons {
				views = append(views, &View{Ref: sandbox.Ref{ID: "a", Generation: gen}, State: state, StopReason: reason})
			}
		}
	}
	var all []situation
	for _, row := range rows {
		for _, view := range views {
			all = append(all, situation{row, view, false}, situation{row, view, true})
		}
	}
	return all
}

// TestSettleGolden pins the whole decision table, so that a change of it is
// seen as one. Run with -update to rewrite it.
func TestSettleGolden(t *testing.T) {
	var b strings.Builder
	for _, s := range situations() {
		v := settle(s.row, s.view, s.lasting)
		reason := ""
		if s.view != nil {
			reason = string(s.view.StopReason)
		}
		line := fmt.Sprintf("%s %-13s -> %s %s %s", s, reason, v.act, v.to, v.reason)
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	const path = "testdata/settle.golden"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() == string(want) {
		return
	}
	got, wanted := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(got), len(wanted)) {
		if got[i] != wanted[i] {
			t.Fatalf("line %d:\n got %s\nwant %s", i+1, got[i], wanted[i])
		}
	}
	t.Fatalf("%d lines, want %d", len(got), len(wanted))
}

// TestSettleRules states what must hold in every cell.
func TestSettleRules(t *testing.T) {
	for _, s := range situations() {
		v := settle(s.row, s.view, s.lasting)
		switch v.act {
		case actMove:
			if s.row == nil || !sandbox.CanMove(s.row.State, v.to) {
				t.Errorf("%s: an illegal move to %s", s, v.to)
			}
			if v.to.Ended() != (v.reason != "") {
				t.Errorf("%s: moves to %s with reason %q", s, v.to, v.reason)
			}
		case actDestroy, actPause:
			if s.view == nil {
				t.Errorf("%s: %s without a VM", s, v.act)
			}
		}
		if v.act == actDestroy && s.row != nil && s.view.State == ViewPaused && !s.row.State.Ended() && s.row.State != sandbox.Stopping {
			t.Errorf("%s: destroys the snapshot of a live sandbox", s)
		}
		if v.act == actDestroy && s.row != nil && s.view.Ref.Generation == s.row.Generation &&
			s.view.State == ViewRunning && s.row.State == sandbox.Running {
			t.Errorf("%s: destroys a VM that should run", s)
		}
		if v.act != actNone && !s.lasting && v != settle(s.row, s.view, true) {
			t.Errorf("%s: decides otherwise when it lasts", s)
		}
	}
}

// TestSettleConverges applies settle again and again to a model of row and
// host. It must come to rest with both in agreement, whatever it began with.
func TestSettleConverges(t *testing.T) {
	for _, s := range situations() {
		row, view := clone(s.row), clone(s.view)
		var path []string
		rested := false
		for range 8 {
			v := settle(row, view, true)
			path = append(path, fmt.Sprintf("%s: %s %s", situation{row, view, true}, v.act, v.to))
			if v.act == actNone || v.act == actReport {
				rested = true
				break
			}
			row, view = act1(row, view, v)
		}
		if !rested {
			t.Errorf("no rest:\n%s", strings.Join(path, "\n"))
			continue
		}
		if !agree(row, view) {
			t.Errorf("rest without agreement:\n%s", strings.Join(path, "\n"))
		}
	}
}

// act1 is what a verdict does in the model.
func act1(row *Sandbox, view *View, v verdict) (*Sandbox, *View) {
	switch v.act {
	case actMove:
		row.State, row.StopReason = v.to, v.reason
	case actPause:
		view.State = ViewPaused
	case actDestroy:
		view = nil
	}
	return row, view
}

// agree reports whether row and view may stay as they are. A VM in motion and
// a generation from the future are nobody's to settle.
func agree(row *Sandbox, view *View) bool {
	switch {
	case row == nil || row.State.Ended():
		return view == nil
	case view == nil:
		return false
	case view.Ref.Generation > row.Generation:
		return true
	}
	switch view.State {
	case ViewRunning:
		return row.State == sandbox.Running && view.Ref.Generation == row.Generation
	case ViewPaused:
		return row.State == sandbox.Paused
	default:
		return view.State != ViewStopped
	}
}

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}
