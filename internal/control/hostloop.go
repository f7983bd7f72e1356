package control

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control/reconcile"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Bounds of the pause before a broken event stream is opened again.
const (
	minRewatch = 500 * time.Millisecond
	maxRewatch = 2 * time.Second
)

// The time until the pass that follows a failed one, of an event or of a whole
// host. The usual cause is a database that restarts within seconds.
const (
	missedRetry = time.Second
	failedRetry = time.Second
)

// hostLoop reconciles one host: a pass every interval, a pass when the event
// stream opens or breaks, and each event as it comes.
//
//	watch ──states──►  run: reconcile one
//	  └──requests──►  run: pass over all  ◄── timer
//	operations ─▲
//
// Invariants: run owns memory, failing and eventNext; watch is the only sender on states, and
// run waits for it; neither channel is ever closed.
type hostLoop struct {
	r      *reconciler
	id     string
	log    *slog.Logger
	memory *passMemory
	// states carries events. It has no buffer: a slow database slows the stream
	// down, and the host bounds its own queue.
	states chan ObservedSandbox
	// requests asks for a pass; one request stands for many. Operations ask too.
	requests chan struct{}
	// failing is true after a pass that failed, so that a host that is down
	// is logged once.
	failing bool
	// eventNext is true after a pass: then an event that waits comes before the
	// next pass.
	eventNext bool
}

func newHostLoop(r *reconciler, id string) *hostLoop {
	return &hostLoop{
		r: r, id: id, log: r.log.With("host", id), memory: newPassMemory(r.cfg),
		states: make(chan ObservedSandbox), requests: r.passRequests.channel(id),
	}
}

// run loops until ctx ends and waits for the watcher.
func (l *hostLoop) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { l.watch(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		observed, pass := l.next(ctx, timer)
		switch {
		case ctx.Err() != nil:
			return
		case pass:
			timer.Reset(l.pass(ctx))
		default:
			seen := false
			l.r.guarded("an event of a host", func() error { seen = l.event(ctx, observed); return nil })
			if !seen {
				timer.Reset(missedRetry)
			}
		}
		l.eventNext = pass
	}
}

// next waits for an event or for a reason to make a pass. If both are ready it
// alternates, so that neither waits for ever and a simulation can be repeated.
func (l *hostLoop) next(ctx context.Context, timer *time.Timer) (observed ObservedSandbox, pass bool) {
	if l.eventNext {
		select {
		case observed = <-l.states:
			return observed, false
		default:
		}
	}
	select {
	case <-l.requests:
		return ObservedSandbox{}, true
	default:
	}
	select {
	case <-timer.C:
		return ObservedSandbox{}, true
	default:
	}
	select {
	case observed = <-l.states:
		return observed, false
	case <-l.requests:
	case <-timer.C:
	case <-ctx.Done():
	}
	return ObservedSandbox{}, true
}

// pass makes one pass and returns the time until the next.
func (l *hostLoop) pass(ctx context.Context) time.Duration {
	var due time.Duration
	err := fault.Caught(func() (err error) {
		due, err = l.r.pass(ctx, l.id, l.memory)
		return err
	})
	switch {
	case ctx.Err() != nil:
	case err != nil && !l.failing:
		l.log.Warn("host cannot be reconciled; its sandboxes are left as they are", "error", err)
	case err == nil && l.failing:
		l.log.Info("host can be reconciled again")
	}
	l.failing = err != nil
	next := l.r.cfg.ReconcileInterval
	if due > 0 {
		next = min(due, next)
	}
	if err != nil {
		next = min(failedRetry, next)
	}
	return next
}

// event reconciles one sandbox if a single event makes the decision certain, and
// leaves it to the operation in flight or the next pass otherwise. It reports whether it could look.
func (l *hostLoop) event(ctx context.Context, observed ObservedSandbox) bool {
	host, ok := l.r.fleet.Host(l.id)
	if !ok {
		return true
	}
	l.r.healths.note(observed)
	readCtx, cancel := context.WithTimeout(ctx, l.r.cfg.AskTimeout)
	defer cancel()
	p, err := l.r.lookUp(readCtx, l.id, &observed)
	if err != nil {
		if ctx.Err() == nil {
			l.log.Warn("an event could not be compared with its row, the next pass will", "sandbox", observed.Ref.ID, "error", err)
		}
		return false
	}
	if d := p.decide(false); d.Action != reconcile.None {
		l.r.applyLogged(ctx, host, p, d)
		return true
	}
	l.requestPassFor(readCtx, p)
	// Clocks are left to the pass: an event may be older than a change of them.
	if err := l.r.clocks.saveRuntime(ctx, p); err != nil && ctx.Err() == nil {
		l.log.Warn("an event could not be written to its row, the next pass will", "sandbox", observed.Ref.ID, "error", err)
		return false
	}
	return true
}

// watch keeps the event stream open until ctx ends.
func (l *hostLoop) watch(ctx context.Context) {
	host, ok := l.r.fleet.Host(l.id)
	if !ok {
		return
	}
	wait := minRewatch
	for {
		_ = fault.Caught(func() error {
			return host.Watch(ctx, func() {
				wait = minRewatch
				l.requestPass()
			}, func(v ObservedSandbox) {
				select {
				case l.states <- v:
				case <-ctx.Done():
				}
			})
		})
		// The cause of the break does not matter. The pass finds out whether the
		// host answers, and logs it.
		l.requestPass()
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		wait = min(2*wait, maxRewatch)
	}
}

// requestPassFor asks for a pass if p's row waits for a host that has just said
// something about it. An event is older than the row that was read for it, so
// that alone is not enough to decide.
func (l *hostLoop) requestPassFor(ctx context.Context, p pair) {
	if p.row == nil || p.agrees() {
		return
	}
	over, err := l.r.presence.finishedOperations(ctx, []Sandbox{*p.row}, l.r.inFlight.all())
	if err == nil && over[p.row.ID] {
		l.requestPass()
	}
}

func (l *hostLoop) requestPass() { l.r.passRequests.request(l.id) }
