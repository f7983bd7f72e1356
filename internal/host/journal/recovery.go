package journal

import "github.com/wrenn-dev/wrenn/internal/sandbox"

// Recovery names the action of an agent on a sandbox whose record an earlier agent
// left behind.
type Recovery int

// The recoveries. Those after KeepState complete or undo an operation.
const (
	KeepState Recovery = iota
	DiscardBuild
	DiscardClone
	RollBackCreate
	UndoPause
	FinishPause
	UndoResume
	FinishResume
	UndoSnapshot
	FinishEgress
	FinishDestroy
)

// String describes the recovery in sentences, for docs/crash-points.md.
func (r Recovery) String() string {
	switch r {
	case DiscardBuild:
		return "Removes the half-made VM with its process, network and control group. The sandbox that waited for it ends as boot_failed; the next create builds again."
	case DiscardClone:
		return "Ends the clone and frees all it has. The pool fills up again."
	case RollBackCreate:
		return "Ends the sandbox as stopped with reason boot_failed and frees its VM, network, control group and files."
	case UndoPause:
		return "Takes over the VM, starts its CPUs if they stand still, configures the guest again, and removes the half-written pause: the sandbox runs."
	case FinishPause:
		return "Ends the VM, which the durable pause has replaced, and frees its network and control group: the sandbox is paused."
	case UndoResume:
		return "Ends the VM, if there is one, and frees its network and control group: the sandbox is paused as before."
	case FinishResume:
		return "Takes over the VM and configures the guest: the sandbox runs. If there is no VM, or it is not known to be restored, and the pause was not changed, the sandbox is paused as before. A resume without memory ends the VM, and the sandbox is paused as before."
	case UndoSnapshot:
		return "Removes the half-written snapshot. A sandbox that ran is taken over, its CPUs start, and its processes continue; a paused one stays as it is."
	case FinishEgress:
		return "Takes over the VM, applies the limits that the record has, and configures the guest again: the sandbox runs with the new limits."
	case FinishDestroy:
		return "Frees the rest. The sandbox is stopped, and a repeated destroy removes its record."
	default:
		return "Keeps the sandbox in its recorded state."
	}
}

// Outcome is the state into which an agent brings a recorded sandbox, by which
// means.
type Outcome int

// The outcomes.
const (
	// StaysStopped: nothing of the sandbox is left but its record.
	StaysStopped Outcome = iota
	// EndsAsRecorded: a teardown was under way, and its reason is in the record.
	EndsAsRecorded
	// EndsUnstarted: the sandbox was never handed out.
	EndsUnstarted
	// StaysPaused: the pause holds the sandbox, and a VM of it is superfluous.
	StaysPaused
	// Runs: the VM holds the sandbox, and is taken over.
	Runs
)

// Outcome returns the outcome of recovery for the recorded sandbox. The committed
// state decides before the step does: a record that says "running" is never paused,
// because only its VM holds its data, and one that says "paused" only runs if
// its virtual CPUs may have run. A resume that boots is begun again: the disk of the
// pause is enough for it, even if a boot that was cut off has written to that disk.
func (r *Record) Outcome() Outcome {
	recovery := r.Recovery()
	switch {
	case r.State == sandbox.Stopped:
		return StaysStopped
	case recovery == FinishDestroy:
		return EndsAsRecorded
	case recovery == RollBackCreate || r.State == sandbox.Pending:
		return EndsUnstarted
	case r.State == sandbox.Paused && (recovery != FinishResume || r.Boot):
		return StaysPaused
	default:
		return Runs
	}
}

// Recovery returns the recovery of the step that the record names, or KeepState
// if no operation was under way.
func (r *Record) Recovery() Recovery {
	if row, ok := find(r.Step); ok {
		return row.Recovery
	}
	return operationRecovery(r.Op)
}

// operationRecovery is the recovery of an operation that has not begun its first
// step. It leaves the committed state, but for the ends of a sandbox.
func operationRecovery(op string) Recovery {
	switch op {
	case OpCreate:
		return RollBackCreate
	case OpDestroy:
		return FinishDestroy
	default:
		return KeepState
	}
}
