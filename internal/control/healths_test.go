package control

import (
	"testing"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestHealthOfAnIncarnation holds which rows show a known health: those of the
// incarnation and state in which the host reported it.
func TestHealthOfAnIncarnation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		row      Sandbox
		state    VMState
		observed sandbox.Generation
		want     bool
	}{
		{"running, this incarnation", Sandbox{State: sandbox.Running, Generation: 2}, VMRunning, 2, true},
		{"running, an older incarnation", Sandbox{State: sandbox.Running, Generation: 2}, VMRunning, 1, false},
		{"pausing, this incarnation", Sandbox{State: sandbox.Pausing, Generation: 2}, VMRunning, 2, true},
		{"running row, paused VM", Sandbox{State: sandbox.Running, Generation: 2}, VMPaused, 2, false},
		{"paused", Sandbox{State: sandbox.Paused, Generation: 2}, VMPaused, 2, true},
		{"paused, after a resume that failed", Sandbox{State: sandbox.Paused, Generation: 3}, VMPaused, 2, true},
		{"paused, a later incarnation", Sandbox{State: sandbox.Paused, Generation: 2}, VMPaused, 3, false},
		{"paused row, running VM", Sandbox{State: sandbox.Paused, Generation: 2}, VMRunning, 2, false},
		{"ended", Sandbox{State: sandbox.Stopped, Generation: 2}, VMRunning, 2, false},
	} {
		h := newHealths()
		c.row.ID = "a"
		h.note(ObservedSandbox{
			Ref: sandbox.Ref{ID: "a", Generation: c.observed}, State: c.state, Health: sandbox.Health{State: "some"},
		})
		if got := h.addTo(c.row).Health.State != ""; got != c.want {
			t.Errorf("%s: the health is shown: %t, want %t", c.name, got, c.want)
		}
	}
}
