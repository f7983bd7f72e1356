package control

import (
	"slices"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// act is what has to be done about a row and a view that disagree.
type act string

const (
	// actNone: they agree, or something is under way that will end by itself.
	actNone act = "none"
	// actMove: the row is behind; move it.
	actMove act = "move"
	// actDestroy: the VM, or the host's memory of it, should not be there.
	actDestroy act = "destroy"
	// actPause: the VM runs but should not.
	actPause act = "pause"
	// actReport: no rule can mend it; the log must show it.
	actReport act = "report"
)

// verdict is what settle decides. To, Reason and Message belong to actMove.
type verdict struct {
	act     act
	to      sandbox.State
	reason  sandbox.StopReason
	message string
}

var (
	none    = verdict{act: actNone}
	destroy = verdict{act: actDestroy}
	report  = verdict{act: actReport}
)

func moveTo(to sandbox.State) verdict { return verdict{act: actMove, to: to} }

func stop(reason sandbox.StopReason) verdict {
	return verdict{act: actMove, to: sandbox.Stopped, reason: reason}
}

// settle compares what should be with what is. It is a pure function.
//
// row is nil when the sandbox has no row on this host; view is nil when the
// host was asked and does not know the sandbox. A host that could not be asked
// is not a nil view: then nothing is settled.
//
// lasting says that the two have disagreed in this way for the grace period,
// or that the operation which might explain it is known to be over. Only an
// end that the host vouches for is taken at once: a VM that has stopped never
// comes back, whatever its generation.
func settle(row *Sandbox, view *View, lasting bool) verdict {
	v := decide(row, view)
	if v.act == actNone || lasting || immediate(row, view) {
		return v
	}
	return none
}

// immediate reports whether no operation under way can explain what is seen.
func immediate(row *Sandbox, view *View) bool {
	switch {
	case view == nil:
		// A destroy has nothing left to do, even if its caller still waits.
		return row != nil && row.State == sandbox.Stopping
	case row == nil || row.State.Ended() || row.State == sandbox.Stopping:
		return view.State == ViewStopped
	case row.State == sandbox.Pending:
		return false // the caller of create has the better message
	case view.State == ViewStopped:
		return true
	case view.Ref.Generation != row.Generation:
		return false
	case view.State == ViewPaused:
		// The host paused it by itself, as a drain does; or it has done what it
		// was asked for, and whoever asked finds the row where it was to go.
		return row.State == sandbox.Running || row.State == sandbox.Pausing
	default:
		return view.State == ViewRunning && row.State == sandbox.Resuming
	}
}

// decide is settle for a disagreement that nothing else will end.
func decide(row *Sandbox, view *View) verdict {
	switch {
	case row == nil || row.State.Ended():
		if view == nil {
			return none
		}
		return destroy
	case row.State == sandbox.Stopping:
		if view == nil || view.State == ViewStopped {
			return stop(sandbox.ReasonDestroyed)
		}
		return destroy
	case view == nil:
		return decideVanished(row)
	case view.State == ViewStopped:
		return decideEnded(row, view)
	case view.Ref.Generation > row.Generation:
		// Only a database that went back in time explains this. Neither side
		// can be trusted over the other; destroying the sandbox still works.
		return report
	}
	return decideAlive(row, view)
}

// decideVanished is for a live row whose host does not know the sandbox.
func decideVanished(row *Sandbox) verdict {
	if row.State == sandbox.Pending {
		return verdict{
			act: actMove, to: sandbox.Error, reason: sandbox.ReasonBootFailed,
			message: "the sandbox never started: its host does not know it",
		}
	}
	return stop(sandbox.ReasonHostLost)
}

// decideEnded is for a live row whose VM has ended.
func decideEnded(row *Sandbox, view *View) verdict {
	if row.State == sandbox.Pending && view.StopReason == sandbox.ReasonBootFailed {
		return verdict{
			act: actMove, to: sandbox.Error, reason: sandbox.ReasonBootFailed,
			message: "the sandbox did not start",
		}
	}
	if !slices.Contains(sandbox.StopReasons(), view.StopReason) {
		return stop(sandbox.ReasonVMMCrash) // a host newer than we are, or one that cannot tell
	}
	return stop(view.StopReason)
}

// decideAlive is for a live row and a VM, or its snapshot, of the same or an
// older generation.
func decideAlive(row *Sandbox, view *View) verdict {
	older := view.Ref.Generation < row.Generation
	switch view.State {
	case ViewPaused:
		switch row.State {
		case sandbox.Paused:
			// A resume that failed leaves the snapshot an older generation.
			return none
		case sandbox.Pending:
			return moveTo(sandbox.Running) // the next pass moves it on
		default:
			return moveTo(sandbox.Paused)
		}
	case ViewRunning:
		switch {
		case row.State == sandbox.Paused:
			return verdict{act: actPause}
		case older:
			return destroy
		case row.State == sandbox.Running:
			return none
		default:
			return moveTo(sandbox.Running)
		}
	default:
		return none // in motion: the host will say where it ends
	}
}
