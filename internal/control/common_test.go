package control

import (
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestWrongStateSaysWhatToDo: the sentence names the sandbox, its state and the next
// step, and the code depends on the wanted state alone.
func TestWrongStateSaysWhatToDo(t *testing.T) {
	for _, c := range []struct {
		state  sandbox.State
		want   sandbox.Status
		reason string
		parts  []string
	}{
		{sandbox.Paused, sandbox.StatusRunning, "sandbox_not_running", []string{"is paused", "resume it", "auto_resume"}},
		{sandbox.Pending, sandbox.StatusRunning, "sandbox_not_running", []string{"is pending", "try again"}},
		{sandbox.Resuming, sandbox.StatusRunning, "sandbox_not_running", []string{"is resuming", "try again"}},
		{sandbox.Pausing, sandbox.StatusPaused, "sandbox_not_paused", []string{"is pausing", "try again"}},
		{sandbox.Stopped, sandbox.StatusRunning, ReasonEnded, []string{"has ended", "expired", "create another"}},
	} {
		row := Sandbox{ID: sandbox.NewID(), State: c.state}
		if c.state.Ended() {
			row.StopReason = sandbox.ReasonExpired
		}
		got := fault.As(wrongState(row, c.want))
		if got.Kind != fault.WrongState || got.Reason != c.reason {
			t.Errorf("%s, want %s: kind %s, reason %s; want reason %s", c.state, c.want, got.Kind, got.Reason, c.reason)
		}
		for _, part := range append(c.parts, string(row.ID)) {
			if !strings.Contains(got.Public, part) {
				t.Errorf("%s, want %s: %q does not contain %q", c.state, c.want, got.Public, part)
			}
		}
	}
}

// TestTransitionThatIsDone: a pause of a paused sandbox is refused with its own
// sentence, which does not say to resume the sandbox.
func TestTransitionThatIsDone(t *testing.T) {
	row := Sandbox{ID: sandbox.NewID(), State: sandbox.Paused}
	got := fault.As(transition{from: sandbox.Running, via: sandbox.Pausing, to: sandbox.Paused}.refused(row))
	if want := "sandbox " + string(row.ID) + " is paused already"; got.Reason != "sandbox_not_running" || got.Public != want {
		t.Errorf("got %s, %q; want sandbox_not_running, %q", got.Reason, got.Public, want)
	}
}
