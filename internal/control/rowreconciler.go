package control

import (
	"context"

	"github.com/wrenn-dev/wrenn/internal/control/reconcile"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// rowReconciler brings one row into agreement with its host, and makes the moves of
// rows in the name of this server. Use cases call it when a command has failed, the
// reconciler's loops for every row.
type rowReconciler struct {
	common
	store  rowStore
	server ServerID
}

// rowStore is the part of [Store] that a rowReconciler needs.
type rowStore interface {
	Get(ctx context.Context, id sandbox.ID) (Sandbox, error)
	Move(ctx context.Context, m Move) (row Sandbox, won bool, err error)
}

// move makes m in the name of this server.
func (r *rowReconciler) move(ctx context.Context, m Move) (Sandbox, bool, error) {
	m.Server = r.server
	return r.store.Move(ctx, m)
}

// ask returns the host's observed state of one sandbox, nil when the host does not know it.
func (r *rowReconciler) ask(ctx context.Context, host Host, id sandbox.ID) (*ObservedSandbox, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.AskTimeout)
	defer cancel()
	return host.Sandbox(ctx, id)
}

// reconcileNow asks row's host about the sandbox and reconciles the row, after an
// operation on it that is over. It returns the row afterwards.
func (r *rowReconciler) reconcileNow(ctx context.Context, host Host, row Sandbox) (Sandbox, error) {
	observed, err := r.ask(ctx, host, row.ID)
	if err != nil {
		return row, err
	}
	p := pair{row: &row, observed: observed}
	if err := r.apply(ctx, host, p, p.decide(true)); err != nil {
		return row, err
	}
	return r.store.Get(ctx, row.ID)
}

// apply carries out the decision d about p. A lost compare-and-set is no error:
// the winner had newer knowledge.
func (r *rowReconciler) apply(ctx context.Context, host Host, p pair, d reconcile.SandboxDecision) error {
	switch d.Action {
	case reconcile.Move:
		m := Move{Ref: p.row.Ref(), From: p.row.State, To: d.To, StopReason: d.Reason, Message: d.Message}
		if d.To == sandbox.Running { // the host has it
			m.Runtime, m.ActiveAt = &p.observed.Runtime, p.observed.LastActiveAt
			if refusal := ignored(p.row.Spec, p.observed.Spec); p.row.State == sandbox.Pending && refusal != nil {
				// The create whose answer was lost would have failed. The next pass ends the VM.
				m = Move{Ref: m.Ref, From: m.From, To: sandbox.Error, StopReason: sandbox.ReasonBootFailed, Message: fault.As(refusal).Public}
			}
		}
		_, _, err := r.move(ctx, m)
		return err
	case reconcile.Delete:
		ctx, cancel := context.WithTimeout(ctx, r.cfg.DestroyTimeout)
		defer cancel()
		// With the generation of the observed state: exactly this VM must not exist, and a
		// newer one is not affected.
		return host.Destroy(ctx, p.observed.Ref, sandbox.ReasonDestroyed)
	case reconcile.Pause:
		ctx, cancel := context.WithTimeout(ctx, r.cfg.PauseTimeout)
		defer cancel()
		_, err := host.Pause(ctx, p.observed.Ref)
		return err
	default:
		return nil
	}
}

// orEnded returns err, or, when row's sandbox has ended or is ending by now, the
// fault that says so. Work that an end has broken so has one code, whichever part
// noticed the end first. Only failures that an end can cause are replaced.
func (r *rowReconciler) orEnded(ctx context.Context, row Sandbox, err error) error {
	if !stateForbids(err) && !fault.Is(err, fault.HostFailed) && !fault.Is(err, fault.Timeout) {
		return err
	}
	now, readErr := r.store.Get(ctx, row.ID)
	if readErr != nil || !endedOrEnding(now) {
		return err
	}
	return wrongState(now, sandbox.StatusRunning)
}

// reasonStopped is the reason with which a host answers for a sandbox that has
// ended, or that it is destroying. Users are told ReasonEnded.
const reasonStopped = "sandbox_stopped"

// endedOrEnding reports whether row's sandbox has ended or its end has begun.
func endedOrEnding(row Sandbox) bool { return row.State.Ended() || row.State == sandbox.Stopping }

// stateForbids reports whether a host refused, or cut, something because of
// the state of the sandbox, or because it does not have the sandbox.
func stateForbids(err error) bool {
	kind := fault.KindOf(err)
	return kind == fault.WrongState || kind == fault.Stale || fault.ReasonOf(err) == ReasonSandboxNotFound
}
