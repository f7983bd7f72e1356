package control

import (
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestClockDrift goes through the product of states and generations: a host is
// told of clocks only when it is stable in the state of the row.
func TestClockDrift(t *testing.T) {
	stable := map[sandbox.State]VMState{sandbox.Running: VMRunning, sandbox.Paused: VMPaused}
	for _, s := range situations() {
		if s.row == nil || s.observed == nil {
			if clockDrift(s.row, s.observed) != (TimeoutChange{}) {
				t.Errorf("%s: clocks of nothing", s)
			}
			continue
		}
		row, observed := *s.row, *s.observed
		if clockDrift(&row, &observed) != (TimeoutChange{}) {
			t.Errorf("%s: equal clocks are told", s)
		}
		row.Spec.Timeout = time.Hour
		got := clockDrift(&row, &observed)
		want := stable[row.State] == observed.State && (observed.Ref.Generation == row.Generation ||
			row.State == sandbox.Paused && observed.Ref.Generation < row.Generation)
		if (got != TimeoutChange{}) != want {
			t.Errorf("%s: told %t, want %t", s, !want, want)
		}
		if want && (*got.Idle != time.Hour || got.Lifetime != nil || got.OnTimeout != nil) {
			t.Errorf("%s: told %+v", s, got)
		}
	}
}

// situation is one combination of a row and an observed state. Either may be nil.
type situation struct {
	row      *Sandbox
	observed *ObservedSandbox
}

func (s situation) String() string {
	p := pair{row: s.row, observed: s.observed}
	return p.rowState() + " " + p.observedState()
}

// situations returns the full product: no row or each state at generation 2; no
// observed state or each state at generations 1 to 3.
func situations() []situation {
	rows := []*Sandbox{nil}
	for _, state := range sandbox.States() {
		rows = append(rows, &Sandbox{ID: "a", Generation: 2, State: state})
	}
	observed := []*ObservedSandbox{nil}
	for _, state := range VMStates() {
		for gen := sandbox.Generation(1); gen <= 3; gen++ {
			observed = append(observed, &ObservedSandbox{Ref: sandbox.Ref{ID: "a", Generation: gen}, State: state})
		}
	}
	var all []situation
	for _, row := range rows {
		for _, state := range observed {
			all = append(all, situation{row, state})
		}
	}
	return all
}

// TestRuntimeDiffers holds which reports of a host are written to the row. The end of a
// lifetime counts only where host and row have the same lifetime.
func TestRuntimeDiffers(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Truncate(time.Microsecond)
	later := now.Add(time.Hour)
	row := func(change func(*Sandbox)) *Sandbox {
		out := Sandbox{
			ID: "a", Generation: 2, State: sandbox.Running, Spec: sandbox.Spec{Lifetime: time.Hour}, LifetimeEndsAt: &now,
			RestoreReport: &sandbox.RestoreReport{At: now},
		}
		change(&out)
		return &out
	}
	observed := func(change func(*ObservedSandbox)) *ObservedSandbox {
		out := ObservedSandbox{
			Ref: sandbox.Ref{ID: "a", Generation: 2}, State: VMRunning, Spec: sandbox.Spec{Lifetime: time.Hour},
			Runtime: RuntimeInfo{LifetimeEndsAt: now.Add(300 * time.Nanosecond), RestoreReport: &sandbox.RestoreReport{At: now}},
		}
		change(&out)
		return &out
	}
	sameRow, same := row(func(*Sandbox) {}), observed(func(*ObservedSandbox) {})
	for _, c := range []struct {
		name     string
		row      *Sandbox
		observed *ObservedSandbox
		want     bool
	}{
		{"equal to the microsecond", sameRow, same, false},
		{"no row", nil, same, false},
		{"no VM", sameRow, nil, false},
		{"another end", sameRow, observed(func(o *ObservedSandbox) { o.Runtime.LifetimeEndsAt = later }), true},
		{"another end of another lifetime", sameRow, observed(func(o *ObservedSandbox) {
			o.Runtime.LifetimeEndsAt, o.Spec.Lifetime = later, 2*time.Hour
		}), false},
		{"a full disk", sameRow, observed(func(o *ObservedSandbox) { o.Runtime.DiskFull = true }), true},
		{"a new report", sameRow, observed(func(o *ObservedSandbox) { o.Runtime.RestoreReport.At = later }), true},
		{"the first report", row(func(s *Sandbox) { s.RestoreReport = nil }), same, true},
		{"another incarnation", sameRow, observed(func(o *ObservedSandbox) { o.Ref.Generation, o.Runtime.DiskFull = 1, true }), false},
		{"a paused row", row(func(s *Sandbox) { s.State, s.DiskFull = sandbox.Paused, true }), same, false},
		{"a paused VM", sameRow, observed(func(o *ObservedSandbox) { o.State, o.Runtime.DiskFull = VMPaused, true }), false},
	} {
		if got := runtimeDiffers(c.row, c.observed); got != c.want {
			t.Errorf("%s: differs is %t, want %t", c.name, got, c.want)
		}
	}
}
