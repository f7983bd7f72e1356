package control

import (
	"context"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// EgressLimits changes the limits of outgoing traffic of sandboxes.
type EgressLimits interface {
	// SetEgress replaces the limits of a sandbox that runs or is paused, and returns it.
	// They hold at once, also for connections that the sandbox has open. When the host
	// does not confirm them the error is HostFailed egress_pending, the row has them
	// nevertheless, and the reconciler brings the host to agree. A host that cannot
	// change limits is Unsupported, and nothing has changed.
	SetEgress(ctx context.Context, id sandbox.ID, limits sandbox.Egress) (Sandbox, error)
}

// EgressChange is a compare-and-set of a row's limits: Was must be the row that was last
// read.
type EgressChange struct {
	Was    Sandbox
	Egress sandbox.Egress
}

// egressLimits is the use case that changes limits of outgoing traffic, and the part of
// the reconciler that brings them into agreement.
type egressLimits struct {
	common
	store egressStore
	rows  *rowReconciler
}

// egressStore is the part of [Store] that egressLimits needs.
type egressStore interface {
	sandboxReader
	SetEgress(ctx context.Context, c EgressChange) (row Sandbox, won bool, err error)
}

// SetEgress implements EgressLimits. The row is written first, by compare-and-set; then
// the host is told, also if the row had these limits already, so that a repeated call
// returns a confirmation.
func (e *egressLimits) SetEgress(ctx context.Context, id sandbox.ID, limits sandbox.Egress) (Sandbox, error) {
	ctx, cancel := e.detached(ctx, e.cfg.AskTimeout)
	defer cancel()
	was, row, err := e.write(ctx, id, limits)
	if err != nil {
		return Sandbox{}, err
	}
	host, err := e.hostOf(row)
	if err != nil {
		return Sandbox{}, err
	}
	now, err := e.tell(ctx, host, row)
	switch {
	case err == nil:
		return now, nil
	case fault.Is(err, fault.Unsupported):
		_, _, undone := e.store.SetEgress(ctx, EgressChange{Was: row, Egress: was.Spec.Egress})
		return Sandbox{}, withCleanup(errEgressFixed(), undone)
	default:
		return Sandbox{}, e.rows.orEnded(ctx, row, fault.Wrap(err, fault.HostFailed, "egress_pending",
			"host %s did not confirm the new limits of sandbox %s; they apply as soon as it answers", row.HostID, row.ID))
	}
}

// write gives the row the limits, and returns it as it was before and is after. It tries
// again after a concurrent change. Each retry means that another change succeeded, so the
// loop ends.
func (e *egressLimits) write(ctx context.Context, id sandbox.ID, limits sandbox.Egress) (was, row Sandbox, err error) {
	was, err = e.store.Get(ctx, id)
	for err == nil {
		if was.State.Ended() || was.State == sandbox.Stopping || was.State == sandbox.Pending {
			return was, row, wrongState(was, sandbox.StatusRunning)
		}
		spec := was.Spec
		spec.Egress = limits
		if err := spec.Validate(); err != nil {
			return was, row, err
		}
		row, won, err := e.store.SetEgress(ctx, EgressChange{Was: was, Egress: limits})
		if err != nil || won {
			return was, row, err
		}
		was = row
	}
	return was, row, err
}

// tell gives host the limits of row, and returns the row as it is then. Several callers
// may tell a host at once, in another order than they read the row in. Therefore tell
// reads the row again afterwards: whichever caller comes last gives the host the limits
// that the row keeps.
func (e *egressLimits) tell(ctx context.Context, host Host, row Sandbox) (Sandbox, error) {
	for {
		askCtx, cancel := context.WithTimeout(ctx, e.cfg.AskTimeout)
		_, err := host.SetEgress(askCtx, row.Ref(), row.Spec.Egress)
		cancel()
		if err != nil {
			return row, err
		}
		now, err := e.store.Get(ctx, row.ID)
		if err != nil || now.Spec.Egress.Equal(row.Spec.Egress) {
			return now, err
		}
		row = now
	}
}

// errEgressFixed is the fault of a change of limits that an agent of an earlier version
// cannot make.
func errEgressFixed() error {
	return fault.New(fault.Unsupported, "egress_unsupported",
		"the agent of the host is of an earlier version and cannot change the limits of a sandbox that exists: update it")
}

// confirm makes certain that host has the limits of row, whose sandbox is about to be
// resumed: a change of them may not have reached the host. A host that has lower limits
// than the row gets no chance to run the sandbox.
func (e *egressLimits) confirm(ctx context.Context, host Host, row Sandbox) error {
	if !row.Spec.Egress.Limited() {
		return nil
	}
	observed, err := e.rows.ask(ctx, host, row.ID)
	if err != nil || observed == nil || observed.Spec.Egress.Equal(row.Spec.Egress) {
		return err
	}
	if _, err = e.tell(ctx, host, row); fault.Is(err, fault.Unsupported) {
		return errEgressFixed()
	}
	return err
}

// egressDrifts reports whether a host has other limits than the row of a sandbox that is
// stable in the state of its row. It is pure.
func egressDrifts(row *Sandbox, observed *ObservedSandbox) bool {
	return stable(row, observed) && !row.Spec.Egress.Equal(observed.Spec.Egress)
}

// push brings a host to have the limits of the row. The row is read again, because a
// pass may have read it before the host was told of a change. With an agent that cannot
// change limits the row gets those that hold: a server has ended before it could undo the
// change.
func (e *egressLimits) push(ctx context.Context, host Host, p pair) error {
	if !egressDrifts(p.row, p.observed) {
		return nil
	}
	row, err := e.store.Get(ctx, p.row.ID)
	if err != nil || !egressDrifts(&row, p.observed) {
		return err
	}
	_, err = e.tell(ctx, host, row)
	if fault.Is(err, fault.Unsupported) {
		_, _, err = e.store.SetEgress(ctx, EgressChange{Was: row, Egress: p.observed.Spec.Egress})
	}
	return err
}
