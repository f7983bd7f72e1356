package reconcile

import (
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// sandboxPair returns a pair with id "a". An empty state means no row or no observed state.
func sandboxPair(row sandbox.State, observed VMState) Pair[SandboxRow, ObservedSandbox] {
	p := Pair[SandboxRow, ObservedSandbox]{ID: "a"}
	if row != "" {
		p.Row = &SandboxRow{State: row, Generation: 1}
	}
	if observed != "" {
		p.Observed = &ObservedSandbox{State: observed, Generation: 1}
	}
	return p
}

func TestMachineGrace(t *testing.T) {
	m := NewMachine(Sandboxes(), Graces{Command: time.Minute, Fork: time.Hour})
	at := time.Unix(0, 0)
	step := func(after time.Duration, want Action, due time.Duration, pairs ...Pair[SandboxRow, ObservedSandbox]) {
		t.Helper()
		at = at.Add(after)
		if got := m.Step(at, pairs)[0].Action; got != want {
			t.Errorf("decision is %s, want %s", got, want)
		}
		if got := m.Due(at); got != due {
			t.Errorf("due in %s, want %s", got, due)
		}
	}
	orphan, fine := sandboxPair("", VMRunning), sandboxPair(sandbox.Running, VMRunning)
	fine.ID = "b"
	step(0, None, time.Minute, orphan, fine)
	step(30*time.Second, None, 30*time.Second, orphan)
	step(30*time.Second, Delete, 0, orphan)
	step(0, None, 0, fine)
	step(0, None, time.Minute, orphan)                              // absent from one pass: the grace begins again
	step(time.Minute, None, time.Minute, sandboxPair("", VMPaused)) // another disagreement

	// A child of a fork waits for its snapshot until its host knows it.
	child := sandboxPair(sandbox.Pending, "")
	child.Row.Forked = true
	step(0, None, time.Hour, child)
	step(time.Minute, None, 59*time.Minute, child)
	step(59*time.Minute, Move, 0, child)
	child.Observed = &ObservedSandbox{State: VMRunning, Generation: 1}
	step(0, None, time.Minute, child)

	// No operation is in flight: there is nothing to wait for.
	certain := sandboxPair(sandbox.Pausing, VMRunning)
	certain.Certain = true
	step(0, Move, time.Minute, certain)
}

func TestMachineGraceOfSnapshots(t *testing.T) {
	m := NewMachine(Snapshots(), Graces{Command: time.Minute, Fork: time.Hour})
	at := time.Unix(0, 0)
	pairs := []Pair[SnapshotRow, ObservedSnapshot]{
		{ID: "named", Row: &SnapshotRow{Status: SnapshotCreating, Kind: KindNamed}},
		{ID: "fork", Row: &SnapshotRow{Status: SnapshotReady, Kind: KindFork}, Observed: &ObservedSnapshot{}},
	}
	for _, c := range []struct {
		after       time.Duration
		named, fork Action
	}{{0, None, None}, {time.Minute, Move, None}, {time.Hour, Move, Delete}} {
		got := m.Step(at.Add(c.after), pairs)
		if got[0].Action != c.named || got[1].Action != c.fork {
			t.Errorf("after %s: %s and %s, want %s and %s", c.after, got[0].Action, got[1].Action, c.named, c.fork)
		}
	}
}
