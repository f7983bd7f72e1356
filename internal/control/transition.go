package control

import (
	"context"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// runTransition performs t and publishes its outcome to waiters in this process.
func (l *lifecycle) runTransition(ctx context.Context, id sandbox.ID, t transition) (Sandbox, error) {
	pending, mine := l.transitions.begin(id, t.to)
	if !mine {
		return l.performTransition(ctx, id, t) // it loses the compare-and-set, unless the other has just ended
	}
	return l.runTransitionAs(ctx, id, t, pending)
}

// runTransitionAs performs t and publishes its outcome through pending.
func (l *lifecycle) runTransitionAs(ctx context.Context, id sandbox.ID, t transition, pending *pendingTransition) (row Sandbox, err error) {
	err = fault.New(fault.Internal, "internal", "the operation broke off")
	defer func() { l.transitions.end(id, pending, row, err) }() // also after a panic, because waiters would never return
	row, err = l.performTransition(ctx, id, t)
	return row, err
}

// performTransition completes t even if the caller hangs up, see detached. The
// compare-and-set lets one of two concurrent transitions through. The other one
// fails with WrongState.
func (l *lifecycle) performTransition(ctx context.Context, id sandbox.ID, t transition) (row Sandbox, err error) {
	ctx, cancel := l.detached(ctx, t.timeout)
	defer cancel()
	var hostID string
	defer func() { l.passRequests.requestAfter(hostID, err) }()
	row, err = l.store.Get(ctx, id)
	if err != nil {
		return Sandbox{}, err
	}
	if row.State != t.from {
		return Sandbox{}, t.refused(row)
	}
	host, err := l.hostOf(row)
	if err != nil {
		return Sandbox{}, err
	}
	hostID = row.HostID
	// Only from here on: a caller whose tries are refused again and again must not
	// look like an operation that explains the row's state.
	defer l.inFlight.begin(id)()
	row, won, err := l.rows.move(ctx, Move{Ref: row.Ref(), From: t.from, To: t.via})
	if err != nil {
		return Sandbox{}, err
	}
	if !won {
		return Sandbox{}, t.refused(row)
	}
	hostCtx, cancelHost := context.WithTimeout(ctx, t.timeout)
	defer cancelHost()
	observed, err := t.run(hostCtx, host, row)
	switch {
	case err == nil:
		return l.commitTransition(ctx, row, observed, t)
	case OutcomeUnknown(err):
		return Sandbox{}, l.rows.orEnded(ctx, row, stateUnknown(row, err))
	default:
		return Sandbox{}, l.explainFailedTransition(ctx, host, row, err)
	}
}

// run has host do its part of t.
func (t transition) run(ctx context.Context, host Host, row Sandbox) (ObservedSandbox, error) {
	if t.prepare != nil {
		if err := t.prepare(ctx, host, row); err != nil {
			return ObservedSandbox{}, err
		}
	}
	return t.command(host, ctx, row.Ref())
}

// refused is the fault of t when row is not in the state that t starts from.
func (t transition) refused(row Sandbox) error {
	if row.State == t.to {
		return fault.New(fault.WrongState, "sandbox_not_"+string(t.from.Status()), "sandbox %s is %s already", row.ID, row.State)
	}
	return wrongState(row, t.from.Status())
}

// commitTransition writes the host's success to the row.
func (l *lifecycle) commitTransition(ctx context.Context, row Sandbox, observed ObservedSandbox, t transition) (Sandbox, error) {
	m := Move{Ref: row.Ref(), From: t.via, To: t.to}
	if t.to == sandbox.Running {
		m.Runtime, m.ActiveAt = &observed.Runtime, observed.LastActiveAt
	}
	l.healths.note(observed)
	now, won, err := l.rows.move(ctx, m)
	if err != nil {
		return Sandbox{}, err
	}
	if won || now.State == t.to {
		return l.healths.addTo(now), nil // or the reconciler came first
	}
	return Sandbox{}, wrongState(now, t.from.Status())
}

// explainFailedTransition returns the error for the caller of a transition that
// the host refused or failed. It reconciles the row first. If another caller ended
// the sandbox meanwhile, the error says so; an end that the failure itself caused
// is a failure of the host.
func (l *lifecycle) explainFailedTransition(ctx context.Context, host Host, row Sandbox, cause error) error {
	now, err := l.rows.reconcileNow(ctx, host, row)
	ended := now.State == sandbox.Stopping || now.StopReason == sandbox.ReasonDestroyed ||
		now.StopReason == sandbox.ReasonExpired || endedOrEnding(now) && stateForbids(cause)
	if err == nil && ended {
		return wrongState(now, row.State.Status())
	}
	if err != nil && stateForbids(cause) {
		return withCleanup(l.rows.orEnded(ctx, row, hostFault(cause)), err)
	}
	return withCleanup(hostFault(cause), err)
}
