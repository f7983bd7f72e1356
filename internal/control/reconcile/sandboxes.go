package reconcile

import (
	"slices"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// SandboxRow is the part of a sandbox's row that the rules read.
type SandboxRow struct {
	State      sandbox.State
	Generation sandbox.Generation
	// Forked: the sandbox is a child of a fork, whose row exists before the
	// snapshot from which it starts.
	Forked bool
}

// ObservedSandbox is the part of a sandbox's observed state that the rules read.
type ObservedSandbox struct {
	State      VMState
	Generation sandbox.Generation
	// StopReason is set when State is VMStopped.
	StopReason sandbox.StopReason
}

// VMState is the state of a VM on its host. It is not a sandbox.State: a host
// does not know rows, and has no word for a sandbox that failed.
type VMState string

// The states of a VM on its host.
const (
	VMStarting VMState = "starting"
	VMRunning  VMState = "running"
	VMPausing  VMState = "pausing"
	VMPaused   VMState = "paused"
	VMResuming VMState = "resuming"
	VMStopping VMState = "stopping"
	// VMStopped: the VM has ended. The host keeps the reason until it is told
	// to destroy the sandbox.
	VMStopped VMState = "stopped"
)

// VMStates lists every VMState.
func VMStates() []VMState {
	return []VMState{VMStarting, VMRunning, VMPausing, VMPaused, VMResuming, VMStopping, VMStopped}
}

// SandboxDecision is a Decision about a sandbox.
type SandboxDecision = Decision[sandbox.State]

// Sandboxes returns the rules for sandboxes.
func Sandboxes() Rules[SandboxRow, ObservedSandbox, sandbox.State] {
	return Rules[SandboxRow, ObservedSandbox, sandbox.State]{
		resolve: resolveSandbox, definite: definiteSandbox, class: classOfSandbox,
	}
}

// classOfSandbox lets a child of a fork wait for its snapshot until its host
// knows it.
func classOfSandbox(row *SandboxRow, observed *ObservedSandbox) Class {
	if observed == nil && row.State == sandbox.Pending && row.Forked {
		return Fork
	}
	return Command
}

func move(to sandbox.State) SandboxDecision { return SandboxDecision{Action: Move, To: to} }

func stop(reason sandbox.StopReason) SandboxDecision {
	return SandboxDecision{Action: Move, To: sandbox.Stopped, Reason: reason}
}

func bootFailed(message string) SandboxDecision {
	return SandboxDecision{Action: Move, To: sandbox.Error, Reason: sandbox.ReasonBootFailed, Message: message}
}

// definiteSandbox accepts the end of a VM of any generation at once, because a VM
// that has stopped never comes back.
func definiteSandbox(row *SandboxRow, observed *ObservedSandbox) bool {
	switch {
	case observed == nil:
		// The destroy has nothing left to do, even if its caller still waits.
		return row != nil && row.State == sandbox.Stopping
	case row == nil || row.State.Ended() || row.State == sandbox.Stopping:
		return observed.State == VMStopped
	case row.State == sandbox.Pending:
		return false // the caller of create has the better message
	case observed.State == VMStopped:
		return true
	case observed.Generation != row.Generation:
		return false
	case observed.State == VMPaused:
		// Either the host paused the VM by itself, as a drain does, or it completed
		// the requested pause. In both cases the row follows.
		return row.State == sandbox.Running || row.State == sandbox.Pausing
	default:
		return observed.State == VMRunning && row.State == sandbox.Resuming
	}
}

func resolveSandbox(row *SandboxRow, observed *ObservedSandbox) SandboxDecision {
	switch {
	case row == nil || row.State.Ended():
		if observed == nil {
			return SandboxDecision{Action: None}
		}
		return SandboxDecision{Action: Delete}
	case row.State == sandbox.Stopping:
		if observed == nil || observed.State == VMStopped {
			return stop(sandbox.ReasonDestroyed)
		}
		return SandboxDecision{Action: Delete}
	case observed == nil:
		return resolveVanished(row)
	case observed.State == VMStopped:
		return resolveEnded(row, observed)
	case observed.Generation > row.Generation:
		// Only a database that was restored from an older copy explains this.
		// Neither side is the better one. The user can still destroy the sandbox.
		return SandboxDecision{Action: Report}
	}
	return resolveAlive(row, observed)
}

// resolveVanished decides about a live row whose host does not know the sandbox.
func resolveVanished(row *SandboxRow) SandboxDecision {
	if row.State == sandbox.Pending {
		return bootFailed("the sandbox never started: its host does not know it")
	}
	return stop(sandbox.ReasonHostLost)
}

// resolveEnded decides about a live row whose VM has ended.
func resolveEnded(row *SandboxRow, observed *ObservedSandbox) SandboxDecision {
	if row.State == sandbox.Pending && observed.StopReason == sandbox.ReasonBootFailed {
		return bootFailed("the sandbox did not start")
	}
	if !slices.Contains(sandbox.StopReasons(), observed.StopReason) {
		return stop(sandbox.ReasonVMMCrash) // the host is newer than this server, or does not know the reason
	}
	return stop(observed.StopReason)
}

// resolveAlive decides about a live row and a VM, or a paused VM's snapshot, of
// the same or an older generation.
func resolveAlive(row *SandboxRow, observed *ObservedSandbox) SandboxDecision {
	older := observed.Generation < row.Generation
	switch observed.State {
	case VMPaused:
		switch row.State {
		case sandbox.Paused:
			// A resume that failed leaves the host one generation behind the row.
			return SandboxDecision{Action: None}
		case sandbox.Pending:
			return move(sandbox.Running) // the next pass moves it to paused
		default:
			return move(sandbox.Paused)
		}
	case VMRunning:
		switch {
		case row.State == sandbox.Paused:
			return SandboxDecision{Action: Pause}
		case older && row.State == sandbox.Resuming:
			// An earlier resume arrived late, after its row had gone back to paused.
			// This VM is the only copy of the sandbox: deleting it would lose it.
			return SandboxDecision{Action: Pause}
		case older:
			return SandboxDecision{Action: Delete}
		case row.State == sandbox.Running:
			return SandboxDecision{Action: None}
		default:
			return move(sandbox.Running)
		}
	default:
		return SandboxDecision{Action: None} // the host has an operation in flight and will report its end
	}
}
