package sandbox

// State is the state of a sandbox in its life cycle.
//
//	          create ok            pause               snapshot durable
//	Pending ───────────► Running ───────► Pausing ────────────────────► Paused
//	   │                  ▲ │  ▲             │                          │  │
//	   │                  │ │  └─────────────┘ pause failed             │  │
//	   │ boot failed      │ │                                    resume │  │
//	   ▼                  │ │      resume ok                           ▼  │
//	 Error                └─┼──────────────────────────────── Resuming ─┘  │
//	   │                    │                                  (failed:    │
//	   │                    │                                   Paused)    │
//	   └──────────┬─────────┴──────────────────────────────────────────────┘
//	              ▼ delete, expiry, VM gone: from every state
//	          Stopping ────► Stopped
//
// Stopped is final. A sandbox whose VM has ended goes to Stopped at once,
// without Stopping.
type State string

// The states. The CHECK constraint of the sandboxes table lists the same.
const (
	Pending  State = "pending"
	Running  State = "running"
	Pausing  State = "pausing"
	Paused   State = "paused"
	Resuming State = "resuming"
	Stopping State = "stopping"
	Stopped  State = "stopped"
	Error    State = "error"
)

// States lists every state.
func States() []State {
	return []State{Pending, Running, Pausing, Paused, Resuming, Stopping, Stopped, Error}
}

// moves is the only transition table in the product.
var moves = map[State][]State{
	Pending:  {Running, Error, Stopping, Stopped},
	Running:  {Pausing, Paused, Stopping, Stopped},
	Pausing:  {Paused, Running, Stopping, Stopped},
	Paused:   {Resuming, Stopping, Stopped},
	Resuming: {Running, Paused, Stopping, Stopped},
	Stopping: {Stopped},
	Error:    {Stopping, Stopped},
	Stopped:  {},
}

// CanMove reports whether a sandbox may go from one state to another. Running
// to Paused without Pausing happens when the host itself paused it (drain).
func CanMove(from, to State) bool {
	for _, s := range moves[from] {
		if s == to {
			return true
		}
	}
	return false
}

// Ended reports whether no VM and no snapshot belongs to a sandbox in s any
// more and none will.
func (s State) Ended() bool { return s == Stopped || s == Error }

// Holds reports whether a sandbox in s uses memory and CPU capacity of its
// host. A paused sandbox uses disk only.
func (s State) Holds() bool {
	switch s {
	case Pending, Running, Pausing, Resuming, Stopping:
		return true
	default:
		return false
	}
}

// Status is the form of a State in the API.
type Status string

// The statuses of the REST contract.
const (
	StatusPending Status = "pending"
	StatusRunning Status = "running"
	StatusPaused  Status = "paused"
	StatusStopped Status = "stopped"
	StatusError   Status = "error"
)

// Status projects s onto the API. A transition shows the status from which it
// started until it is complete. Stopping shows stopped, because every further
// operation is refused.
func (s State) Status() Status {
	switch s {
	case Pending:
		return StatusPending
	case Running, Pausing:
		return StatusRunning
	case Paused, Resuming:
		return StatusPaused
	case Stopping, Stopped:
		return StatusStopped
	default:
		return StatusError
	}
}

// StatesOf returns the states that show as st, for list filters. It is empty
// for an unknown status.
func StatesOf(st Status) []State {
	var out []State
	for _, s := range States() {
		if s.Status() == st {
			out = append(out, s)
		}
	}
	return out
}

// StopReason is the machine-readable reason for the end of a sandbox.
type StopReason string

// The reasons. They are part of the REST contract (stop_reason).
const (
	ReasonDestroyed  StopReason = "destroyed"   // a user deleted it
	ReasonExpired    StopReason = "expired"     // its idle or lifetime clock expired
	ReasonGuestExit  StopReason = "guest_exit"  // the guest powered itself off
	ReasonGuestCrash StopReason = "guest_crash" // kernel panic or reset
	ReasonOOM        StopReason = "oom"         // the host's kernel killed the VM for its memory
	ReasonVMMCrash   StopReason = "vmm_crash"   // the VMM process ended by itself or was killed
	ReasonHostLost   StopReason = "host_lost"   // its host no longer knows it
	ReasonBootFailed StopReason = "boot_failed" // it never came up
)

// StopReasons lists every reason.
func StopReasons() []StopReason {
	return []StopReason{
		ReasonDestroyed, ReasonExpired, ReasonGuestExit, ReasonGuestCrash,
		ReasonOOM, ReasonVMMCrash, ReasonHostLost, ReasonBootFailed,
	}
}
