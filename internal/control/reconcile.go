package control

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control/reconcile"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// reconciler keeps rows and hosts in agreement.
type reconciler struct {
	common
	store        passStore
	rows         *rowReconciler
	snapshots    *snapshotReconciler
	clocks       *clocks
	limits       *egressLimits
	inventory    *inventory
	presence     *presence
	activity     *activity
	healths      *healths
	inFlight     *inFlight
	passRequests *passRequests
	firstPasses  *firstPasses
}

// passStore is the part of [Store] that a pass over a host reads of sandboxes.
type passStore interface {
	sandboxReader
	Unended(ctx context.Context, hostID string) ([]Sandbox, error)
}

// run keeps rows and hosts in agreement until ctx ends. It waits for all
// goroutines that it started.
func (r *reconciler) run(ctx context.Context) {
	r.firstPasses.start()
	var wg sync.WaitGroup
	for _, h := range r.fleet.Hosts() {
		wg.Go(func() { newHostLoop(r, h.ID).run(ctx) }) // each round of which is guarded
	}
	wg.Wait()
}

// maxAtOnce bounds the commands that one pass has under way on a host.
const maxAtOnce = 8

// pass compares all rows and observed states of one host once and carries the decisions
// out. It returns the time until the next grace period ends; zero if no grace
// period is running.
//
// Rows are read before the host is asked, so that a row without an observed state has no
// VM. In between, finishedOperations finds the operations that are over.
func (r *reconciler) pass(ctx context.Context, hostID string, memory *passMemory) (time.Duration, error) {
	if _, err := r.inventory.observe(ctx, hostID); err != nil {
		return 0, err
	}
	host, ok := r.fleet.Host(hostID)
	if !ok {
		return 0, fault.New(fault.Internal, "host_unknown", "host %s is not in the fleet", hostID)
	}
	pairs, err := r.pairs(ctx, host, hostID)
	if err != nil {
		return 0, err
	}
	r.noteActivity(pairs)
	r.healths.notePairs(pairs)
	decisions := memory.sandboxes.Step(time.Now(), ruleInputs(pairs))
	slots := make(chan struct{}, maxAtOnce)
	var wg sync.WaitGroup
	for i, p := range pairs {
		d := decisions[i]
		if d.Action == reconcile.None && !runtimeDiffers(p.row, p.observed) && clockDrift(p.row, p.observed) == (TimeoutChange{}) &&
			!egressDrifts(p.row, p.observed) {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			r.guarded("reconciling a sandbox", func() error { r.reconcileOne(ctx, host, p, d); return nil })
		})
	}
	wg.Wait()
	due := memory.sandboxes.Due(time.Now())
	young := time.Since(memory.startedAt) < startTime
	if slices.ContainsFunc(pairs, func(p pair) bool { return r.retrySoon(p, young) }) && (due == 0 || due > soonRetry) {
		due = soonRetry
	}
	if err := r.snapshots.pass(ctx, host, hostID, memory.snapshots); err != nil {
		return due, err
	}
	r.firstPasses.record(hostID)
	return due, nil
}

const (
	// soonRetry is how soon an operation is looked at again that is about to be
	// over, see retrySoon.
	soonRetry = time.Second
	// startTime is how long after the start of a server the database may still
	// take its predecessor for live.
	startTime = 15 * time.Second
)

// retrySoon reports whether the operation behind p's row is about to be known to
// be over: the host still works for a server that has ended, this server had
// an operation on a sandbox about which row and host disagree or, in a young
// server, the operation may be its predecessor's.
func (r *reconciler) retrySoon(p pair, young bool) bool {
	switch {
	case p.operationOver:
		return !p.certain()
	case p.row == nil || !transitional(p.row.State) || p.row.Server == 0:
		return false
	case p.row.Server == r.presence.server:
		return !p.agrees()
	default:
		return young
	}
}

// reconcileOne carries out the decision about one pair. Where row and observed state agree
// it copies the runtime information to the row, and the row's limits and clocks to the
// host.
func (r *reconciler) reconcileOne(ctx context.Context, host Host, p pair, d reconcile.SandboxDecision) {
	if d.Action != reconcile.None {
		r.applyLogged(ctx, host, p, d)
		return
	}
	if err := r.limits.push(ctx, host, p); err != nil {
		r.log.Warn("limits of outgoing traffic of a sandbox not reconciled, will try again", "sandbox", p.id(), "error", err)
	}
	err := r.clocks.saveRuntime(ctx, p)
	if err == nil {
		err = r.clocks.pushClocks(ctx, p)
	}
	if err != nil {
		r.log.Warn("clocks or runtime information of a sandbox not reconciled, will try again", "sandbox", p.id(), "error", err)
	}
}

// applyLogged is apply for the loop, which logs the errors.
func (r *reconciler) applyLogged(ctx context.Context, host Host, p pair, d reconcile.SandboxDecision) {
	log := r.log.With("sandbox", p.id(), "row", p.rowState(), "observed", p.observedState(), "action", string(d.Action))
	if d.Action == reconcile.Report {
		log.Error("row and host disagree in a way that no rule resolves; destroy the sandbox")
		return
	}
	if err := r.rows.apply(ctx, host, p, d); err != nil {
		log.Warn("row and host not reconciled, will try again", "error", err)
		return
	}
	level := slog.LevelInfo
	if p.row != nil && (p.row.State.Ended() || p.row.State == sandbox.Stopping) {
		level = slog.LevelDebug // every destroy ends like this
	}
	log.Log(ctx, level, "row and host reconciled", "to", string(d.To), "reason", string(d.Reason))
}
