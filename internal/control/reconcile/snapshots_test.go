package reconcile

import "testing"

// snapshotCase is one combination of the arguments of Decide. An empty status
// means that there is no row.
type snapshotCase struct {
	kind    SnapshotKind
	status  SnapshotStatus
	onHost  bool
	certain bool
}

func (c snapshotCase) decide() SnapshotDecision {
	var row *SnapshotRow
	var observed *ObservedSnapshot
	if c.status != "" {
		row = &SnapshotRow{Status: c.status, Kind: c.kind}
	}
	if c.onHost {
		observed = &ObservedSnapshot{}
	}
	return Snapshots().Decide(row, observed, c.certain)
}

func snapshotCases() []snapshotCase {
	var all []snapshotCase
	for _, kind := range []SnapshotKind{KindNamed, KindFork} {
		for _, status := range append(SnapshotStatuses(), "") {
			for _, onHost := range []bool{false, true} {
				all = append(all, snapshotCase{kind, status, onHost, false}, snapshotCase{kind, status, onHost, true})
			}
		}
	}
	return all
}

// TestSnapshotsTable pins the whole decision table. A case that is not listed is None.
func TestSnapshotsTable(t *testing.T) {
	ready := SnapshotDecision{Action: Move, To: SnapshotReady}
	failed := SnapshotDecision{Action: Move, To: SnapshotError}
	del, remove := SnapshotDecision{Action: Delete}, SnapshotDecision{Action: Remove}
	want := map[snapshotCase]SnapshotDecision{
		{KindNamed, "", true, true}: del,
		{KindFork, "", true, true}:  del,

		{KindNamed, SnapshotCreating, true, false}: ready,
		{KindNamed, SnapshotCreating, true, true}:  ready,
		{KindNamed, SnapshotCreating, false, true}: failed,
		{KindNamed, SnapshotReady, false, true}:    failed,
		{KindNamed, SnapshotError, true, false}:    ready,
		{KindNamed, SnapshotError, true, true}:     ready,

		{KindFork, SnapshotCreating, true, true}:  del,
		{KindFork, SnapshotCreating, false, true}: remove,
		{KindFork, SnapshotReady, true, true}:     del,
		{KindFork, SnapshotReady, false, true}:    remove,
		{KindFork, SnapshotError, true, true}:     del,
		{KindFork, SnapshotError, false, true}:    remove,
	}
	for _, kind := range []SnapshotKind{KindNamed, KindFork} {
		for _, certain := range []bool{false, true} {
			want[snapshotCase{kind, SnapshotDeleting, true, certain}] = del
			want[snapshotCase{kind, SnapshotDeleting, false, certain}] = remove
		}
	}
	for _, c := range snapshotCases() {
		expected, listed := want[c]
		if !listed {
			expected = SnapshotDecision{Action: None}
		}
		if got := c.decide(); got != expected {
			t.Errorf("%+v: got %+v, want %+v", c, got, expected)
		}
	}
}

// TestSnapshotsConverge carries decisions out on a model until it rests: then the
// host has a named snapshot exactly if its row is ready, and nothing of a fork is left.
func TestSnapshotsConverge(t *testing.T) {
	for _, start := range snapshotCases() {
		c := start
		c.certain = true
		for range 4 {
			switch d := c.decide(); d.Action {
			case Move:
				c.status = d.To
			case Delete: // the row is removed afterwards
				c.onHost, c.status = false, ""
			case Remove:
				c.status = ""
			}
		}
		if d := c.decide(); d.Action != None {
			t.Errorf("%+v: no rest, at %+v with %s", start, c, d.Action)
		}
		if c.onHost != (c.status == SnapshotReady) || c.kind == KindFork && c.status != "" {
			t.Errorf("%+v: rest without agreement, at %+v", start, c)
		}
	}
}
