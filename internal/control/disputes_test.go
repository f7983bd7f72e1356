package control

import (
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func TestDisputes(t *testing.T) {
	d := newDisputes(time.Minute, time.Hour)
	at := time.Unix(0, 0)
	orphan := pair{view: &View{Ref: sandbox.Ref{ID: "a", Generation: 1}, State: ViewRunning}}
	fine := pair{
		row:  &Sandbox{ID: "b", Generation: 1, State: sandbox.Running},
		view: &View{Ref: sandbox.Ref{ID: "b", Generation: 1}, State: ViewRunning},
	}
	check := func(after time.Duration, pairs []pair, want bool, due time.Duration) {
		t.Helper()
		at = at.Add(after)
		if got := d.next(pairs, at); got[0] != want {
			t.Errorf("lasting %t, want %t", got[0], want)
		}
		if got := d.due(at); got != due {
			t.Errorf("due in %s, want %s", got, due)
		}
	}
	check(0, []pair{orphan, fine}, false, time.Minute)
	check(30*time.Second, []pair{orphan}, false, 30*time.Second)
	check(30*time.Second, []pair{orphan}, true, 0)
	check(0, []pair{fine}, false, 0)
	check(0, []pair{orphan}, false, time.Minute) // gone for one pass: it begins anew
	changed := *orphan.view
	changed.State = ViewPaused
	check(time.Minute, []pair{{view: &changed}}, false, time.Minute) // another disagreement

	// A child of a fork waits for its turn, until it is seen on its host.
	child := pair{row: &Sandbox{ID: "c", Generation: 1, State: sandbox.Pending, ParentID: "p"}}
	check(0, []pair{child}, false, time.Hour)
	check(time.Minute, []pair{child}, false, 59*time.Minute)
	check(59*time.Minute, []pair{child}, true, 0)
	child.view = &View{Ref: sandbox.Ref{ID: "c", Generation: 1}, State: ViewRunning}
	check(0, []pair{child}, false, time.Minute)
}
