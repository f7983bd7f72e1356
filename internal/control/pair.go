package control

import (
	"fmt"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control/reconcile"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// The instances of reconcile.Machine that the reconciler of one host uses.
type (
	sandboxMachine  = reconcile.Machine[reconcile.SandboxRow, reconcile.ObservedSandbox, sandbox.State]
	snapshotMachine = reconcile.Machine[reconcile.SnapshotRow, reconcile.ObservedSnapshot, SnapshotStatus]
)

// rules are the decision tables; they are constant.
var (
	sandboxRules  = reconcile.Sandboxes()
	snapshotRules = reconcile.Snapshots()
)

// passMemory is the state that a host's reconciler keeps between two passes.
type passMemory struct {
	// startedAt is the time of the first pass.
	startedAt time.Time
	sandboxes *sandboxMachine
	snapshots *snapshotMachine
}

// newPassMemory returns the memory of a reconciler that has made no pass. The
// children of a fork are asked for once their snapshot has been taken, and the
// snapshot is needed for as long as the fork takes.
func newPassMemory(cfg Config) *passMemory {
	return &passMemory{
		startedAt: time.Now(),
		sandboxes: reconcile.NewMachine(sandboxRules, reconcile.Graces{Command: cfg.Grace, Fork: 2 * cfg.Grace}),
		snapshots: reconcile.NewMachine(snapshotRules, reconcile.Graces{Command: cfg.Grace, Fork: cfg.ForkTimeout + cfg.Grace}),
	}
}

// pair is a sandbox as the database and as its host know it. Either may be
// nil, but not both.
type pair struct {
	row      *Sandbox
	observed *ObservedSandbox
	// operationOver: no operation of any server explains the row's state. The host may
	// still be working on one, see ObservedSandbox.Busy.
	operationOver bool
}

// certain reports whether no operation in flight can explain a disagreement.
func (p pair) certain() bool { return p.operationOver && (p.observed == nil || !p.observed.Busy) }

// id returns the id of the sandbox.
func (p pair) id() sandbox.ID {
	if p.row != nil {
		return p.row.ID
	}
	return p.observed.Ref.ID
}

// ruleInput returns the part of p that the rules read.
func (p pair) ruleInput() reconcile.Pair[reconcile.SandboxRow, reconcile.ObservedSandbox] {
	out := reconcile.Pair[reconcile.SandboxRow, reconcile.ObservedSandbox]{ID: string(p.id()), Certain: p.certain()}
	if p.row != nil {
		out.Row = &reconcile.SandboxRow{State: p.row.State, Generation: p.row.Generation, Forked: p.row.ParentID != ""}
	}
	if p.observed != nil {
		out.Observed = &reconcile.ObservedSandbox{
			State: p.observed.State, Generation: p.observed.Ref.Generation, StopReason: p.observed.StopReason,
		}
	}
	return out
}

// decide returns the decision about p without memory of earlier passes. certain
// says that no operation in flight can explain a disagreement.
func (p pair) decide(certain bool) reconcile.SandboxDecision {
	input := p.ruleInput()
	return sandboxRules.Decide(input.Row, input.Observed, certain)
}

// agrees reports whether row and observed state may stay as they are.
func (p pair) agrees() bool {
	input := p.ruleInput()
	return sandboxRules.Agree(input.Row, input.Observed)
}

func (p pair) rowState() string {
	if p.row == nil {
		return "absent"
	}
	return fmt.Sprintf("%s/%d", p.row.State, p.row.Generation)
}

func (p pair) observedState() string {
	if p.observed == nil {
		return "absent"
	}
	return fmt.Sprintf("%s/%d", p.observed.State, p.observed.Ref.Generation)
}

// snapshotPair is a snapshot as the database and as its host know it. Either
// may be nil, but not both.
type snapshotPair struct {
	row      *Snapshot
	observed *ObservedSnapshot
}

func (p snapshotPair) id() sandbox.SnapshotID {
	if p.row != nil {
		return p.row.ID
	}
	return p.observed.ID
}

// ruleInput returns the part of p that the rules read.
func (p snapshotPair) ruleInput() reconcile.Pair[reconcile.SnapshotRow, reconcile.ObservedSnapshot] {
	out := reconcile.Pair[reconcile.SnapshotRow, reconcile.ObservedSnapshot]{ID: string(p.id())}
	if p.row != nil {
		out.Row = &reconcile.SnapshotRow{Status: p.row.Status, Kind: p.row.Kind}
	}
	if p.observed != nil {
		out.Observed = &reconcile.ObservedSnapshot{}
	}
	return out
}

// ruleInputs returns the rules' input for many pairs.
func ruleInputs[P interface{ ruleInput() F }, F any](pairs []P) []F {
	out := make([]F, len(pairs))
	for i, p := range pairs {
		out[i] = p.ruleInput()
	}
	return out
}
