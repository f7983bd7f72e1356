package control

import (
	"testing"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestRetrySoon holds which pairs a pass looks at again before the interval.
func TestRetrySoon(t *testing.T) {
	r := &reconciler{presence: &presence{server: 1}}
	resuming := func(server ServerID) *Sandbox {
		return &Sandbox{State: sandbox.Resuming, Generation: 2, Server: server}
	}
	paused := &ObservedSandbox{Ref: sandbox.Ref{Generation: 1}, State: VMPaused}
	for _, c := range []struct {
		name  string
		p     pair
		young bool
		want  bool
	}{
		{"over, and the host is done", pair{row: resuming(1), observed: paused, operationOver: true}, false, false},
		{"over, and the host is busy", pair{row: resuming(1), observed: &ObservedSandbox{State: VMResuming, Busy: true}, operationOver: true}, false, true},
		{"this server has an operation, and the host disagrees", pair{row: resuming(1), observed: paused}, false, true},
		{"this server has an operation, and the host works on it", pair{row: resuming(1), observed: &ObservedSandbox{Ref: sandbox.Ref{Generation: 2}, State: VMResuming}}, false, false},
		{"another server, this one is old", pair{row: resuming(2), observed: paused}, false, false},
		{"another server, this one is young", pair{row: resuming(2), observed: paused}, true, true},
		{"no server is known", pair{row: resuming(0), observed: paused}, true, false},
		{"not in between", pair{row: &Sandbox{State: sandbox.Running, Server: 1}, observed: paused}, true, false},
		{"no row", pair{observed: paused}, true, false},
	} {
		if got := r.retrySoon(c.p, c.young); got != c.want {
			t.Errorf("%s: looked at again soon is %v, want %v", c.name, got, c.want)
		}
	}
}
