package journal

import (
	"reflect"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestSharedStepsHaveEqualRows: a record names its step, not its table, so that
// a step of two operations must mean the same in both.
func TestSharedStepsHaveEqualRows(t *testing.T) {
	rows := make(map[string]Step)
	for _, o := range Operations() {
		for _, s := range o.Steps {
			if before, ok := rows[s.Name]; ok && !reflect.DeepEqual(before, s) {
				t.Errorf("the step %s has the rows %+v and %+v, want the same in each operation", s.Name, before, s)
			}
			rows[s.Name] = s
		}
	}
}

func TestOutcome(t *testing.T) {
	for _, c := range []struct {
		state    sandbox.State
		op, step string
		want     Outcome
	}{
		{sandbox.Running, "", "", Runs},
		{sandbox.Paused, "", "", StaysPaused},
		{sandbox.Stopped, "", "", StaysStopped},
		{sandbox.Stopped, OpDestroy, StepDestroyFiles, StaysStopped},
		{sandbox.Pending, "", "", EndsUnstarted},
		{sandbox.Pending, OpCreate, StepCreateCommit, EndsUnstarted},
		{sandbox.Pending, OpDestroy, StepDestroyVM, EndsAsRecorded},
		{sandbox.Running, OpPause, StepPauseCommit, Runs},
		{sandbox.Paused, OpPause, StepPauseFree, StaysPaused},
		// A pause whose commit may or may not be on disk was undone.
		{sandbox.Running, OpPause, StepPauseFree, Runs},
		{sandbox.Paused, OpResume, "", StaysPaused},
		{sandbox.Paused, OpResume, StepResumeVMM, StaysPaused},
		{sandbox.Paused, OpResume, StepResumeCont, Runs},
		{sandbox.Paused, OpResume, StepResumeCommit, Runs},
		{sandbox.Running, OpSnapshot, StepSnapshotCont, Runs},
		{sandbox.Paused, OpSnapshot, StepSnapshotDisk, StaysPaused},
		{sandbox.Running, OpEgress, StepEgressApply, Runs},
		{sandbox.Paused, OpDestroy, "", EndsAsRecorded},
	} {
		r := Record{State: c.state, Op: c.op, Step: c.step}
		if r.Op == OpResume {
			booting := r
			booting.Boot = true
			if got := booting.Outcome(); got != StaysPaused {
				t.Errorf("a resume that boots, cut off at %q: outcome %d, want %d", c.step, got, StaysPaused)
			}
		}
		if got := r.Outcome(); got != c.want {
			t.Errorf("a %q record at %q: outcome %d, want %d", c.state, c.op+"/"+c.step, got, c.want)
		}
	}
}
