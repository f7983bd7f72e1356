package reconcile

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

var update = flag.Bool("update", false, "rewrite golden files")

// situation is one combination of the arguments of Decide.
type situation struct {
	row      *SandboxRow
	observed *ObservedSandbox
	certain  bool
}

func (s situation) String() string {
	row, observed := "absent", "absent"
	if s.row != nil {
		row = fmt.Sprintf("%s/%d", s.row.State, s.row.Generation)
	}
	if s.observed != nil {
		observed = fmt.Sprintf("%s/%d", s.observed.State, s.observed.Generation)
	}
	return fmt.Sprintf("%-11s %-11s certain=%-5t", row, observed, s.certain)
}

func (s situation) decide() SandboxDecision { return Sandboxes().Decide(s.row, s.observed, s.certain) }

// situations returns the full product: no row or each state at generation 2; no
// observed state or each state at generations 1 to 3; certain or not. Observed states of an ended VM
// carry a known, a special and an unknown reason.
func situations() []situation {
	rows := []*SandboxRow{nil}
	for _, state := range sandbox.States() {
		rows = append(rows, &SandboxRow{Generation: 2, State: state})
	}
	observed := []*ObservedSandbox{nil}
	for _, state := range VMStates() {
		for gen := sandbox.Generation(1); gen <= 3; gen++ {
			reasons := []sandbox.StopReason{""}
			if state == VMStopped {
				reasons = []sandbox.StopReason{sandbox.ReasonExpired, sandbox.ReasonBootFailed, "of_the_future"}
			}
			for _, reason := range reasons {
				observed = append(observed, &ObservedSandbox{Generation: gen, State: state, StopReason: reason})
			}
		}
	}
	var all []situation
	for _, row := range rows {
		for _, state := range observed {
			all = append(all, situation{row, state, false}, situation{row, state, true})
		}
	}
	return all
}

// TestSandboxesGolden pins the whole decision table, so that a diff shows every
// change of it. Run with -update to rewrite it.
func TestSandboxesGolden(t *testing.T) {
	var b strings.Builder
	for _, s := range situations() {
		d := s.decide()
		reason := ""
		if s.observed != nil {
			reason = string(s.observed.StopReason)
		}
		line := fmt.Sprintf("%s %-13s -> %s %s %s", s, reason, d.Action, d.To, d.Reason)
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	const path = "testdata/sandboxes.golden"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, wanted := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(got), len(wanted)) {
		if got[i] != wanted[i] {
			t.Fatalf("line %d:\n got %s\nwant %s", i+1, got[i], wanted[i])
		}
	}
	if len(got) != len(wanted) {
		t.Fatalf("%d lines, want %d", len(got), len(wanted))
	}
}

// TestSandboxRules states the properties that every combination must have.
func TestSandboxRules(t *testing.T) {
	for _, s := range situations() {
		d := s.decide()
		switch d.Action {
		case Move:
			if s.row == nil || !sandbox.CanMove(s.row.State, d.To) {
				t.Errorf("%s: an illegal move to %s", s, d.To)
			}
			if d.To.Ended() != (d.Reason != "") {
				t.Errorf("%s: moves to %s with reason %q", s, d.To, d.Reason)
			}
		case Delete, Pause:
			if s.observed == nil {
				t.Errorf("%s: %s without a VM", s, d.Action)
			}
		}
		live := s.row != nil && !s.row.State.Ended() && s.row.State != sandbox.Stopping
		if d.Action == Delete && live && s.observed.State == VMPaused {
			t.Errorf("%s: deletes the snapshot of a live sandbox", s)
		}
		if d.Action == Delete && live && s.observed.State == VMRunning && s.row.State == sandbox.Running &&
			s.observed.Generation == s.row.Generation {
			t.Errorf("%s: deletes a VM that should run", s)
		}
		if d.Action != None && !s.certain && d != Sandboxes().Decide(s.row, s.observed, true) {
			t.Errorf("%s: decides otherwise when it is certain", s)
		}
	}
}

// TestSandboxesConverge applies decisions repeatedly to a model of row and host.
// The model must come to rest with both in agreement, from every combination.
func TestSandboxesConverge(t *testing.T) {
	for _, s := range situations() {
		row, observed := clone(s.row), clone(s.observed)
		var path []string
		for range 8 {
			d := Sandboxes().Decide(row, observed, true)
			path = append(path, fmt.Sprintf("%s: %s %s", situation{row, observed, true}, d.Action, d.To))
			row, observed = carryOut(row, observed, d)
		}
		if d := Sandboxes().Decide(row, observed, true); d.Action != None && d.Action != Report {
			t.Errorf("no rest:\n%s", strings.Join(path, "\n"))
		} else if !agree(row, observed) {
			t.Errorf("rest without agreement:\n%s", strings.Join(path, "\n"))
		}
	}
}

// carryOut applies a decision to the model.
func carryOut(row *SandboxRow, observed *ObservedSandbox, d SandboxDecision) (*SandboxRow, *ObservedSandbox) {
	switch d.Action {
	case Move:
		row.State = d.To
	case Pause:
		observed.State = VMPaused
	case Delete:
		observed = nil
	}
	return row, observed
}

// agree reports whether row and observed state may stay as they are. No rule applies to a
// VM with an operation in flight or with a generation that the row never had.
func agree(row *SandboxRow, observed *ObservedSandbox) bool {
	switch {
	case row == nil || row.State.Ended():
		return observed == nil
	case observed == nil:
		return false
	case observed.Generation > row.Generation:
		return true
	}
	switch observed.State {
	case VMRunning:
		return row.State == sandbox.Running && observed.Generation == row.Generation
	case VMPaused:
		return row.State == sandbox.Paused
	default:
		return observed.State != VMStopped
	}
}

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}
