package control

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Service implements [API] as a composition of the use cases. It is safe for
// concurrent use.
//
// Invariants: no state of a sandbox lives in it, only last-activity times that
// have not been written yet, an estimate of the hosts' usage, the health that they
// last reported, the operations under way here, and their waiters; every move of a
// row is a compare-and-set, so any number of Services may share a database; it
// starts no goroutine outside Run.
type Service struct {
	// Constant after New.
	*creator
	*lifecycle
	*guestWork
	*clocks
	*egressLimits
	*forker
	*snapshots
	*templates
	*images
	*queries
	*system
	*machines
	server ServerID
	loops  loops
}

// loops are the parts of a Service that run in the background.
type loops struct {
	presence   *presence
	reconciler *reconciler
	retention  *retention
	activity   *activity
}

var _ API = (*Service)(nil)

// New returns a Service. Every argument is required.
func New(cfg Config, store Store, fleet Fleet, log *slog.Logger) (*Service, error) {
	if store == nil || fleet == nil || log == nil {
		return nil, fault.New(fault.Internal, "missing_dependency", "control.New needs a store, a fleet and a logger")
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return compose(common{cfg: cfg, fleet: fleet, log: log}, store, ServerID(1+rand.Int64N(math.MaxInt64))), nil
}

// compose connects the use cases and the loops with each other.
func compose(c common, store Store, server ServerID) *Service {
	healths, usage, inFlight, requests := newHealths(), newUsageCache(store), newInFlight(), newPassRequests()
	activity, firstPasses := newActivity(c, store), newFirstPasses()
	inventory := &inventory{common: c, store: store}
	presence := &presence{store: store, log: c.log, server: server}
	rows := &rowReconciler{common: c, store: store, server: server}
	booter := &booter{common: c, rows: rows, healths: healths}
	placer := &placer{common: c, store: store, inventory: inventory, usage: usage, server: server}
	templates := &templates{common: c, store: store}
	snapshots := &snapshots{common: c, store: store, rows: rows}
	clocks := &clocks{common: c, store: store, rows: rows}
	limits := &egressLimits{common: c, store: store, rows: rows}
	lifecycle := &lifecycle{
		common: c, store: store, rows: rows, limits: limits, transitions: newTransitions(), inFlight: inFlight,
		passRequests: requests, healths: healths,
	}
	creator := &creator{common: c, templates: templates, placer: placer, booter: booter, inFlight: inFlight, passRequests: requests}
	return &Service{
		creator: creator, server: server,
		machines:  &machines{common: c, store: store, creator: creator, snapshots: snapshots},
		lifecycle: lifecycle,
		guestWork: &guestWork{common: c, store: store, rows: rows, lifecycle: lifecycle, activity: activity},
		forker: &forker{
			common: c, store: store, snapshots: snapshots, booter: booter, usage: usage, inFlight: inFlight,
			passRequests: requests, server: server,
		},
		clocks: clocks, egressLimits: limits, snapshots: snapshots, templates: templates,
		images:  &images{common: c, inventory: inventory},
		queries: &queries{store: store, healths: healths},
		system:  &system{common: c, store: store, inventory: inventory, firstPasses: firstPasses},
		loops: loops{
			presence: presence, activity: activity, retention: &retention{common: c, store: store},
			reconciler: &reconciler{
				common: c, store: store, rows: rows, snapshots: &snapshotReconciler{common: c, store: store}, clocks: clocks, limits: limits,
				inventory: inventory, presence: presence, activity: activity, healths: healths, inFlight: inFlight,
				passRequests: requests, firstPasses: firstPasses,
			},
		},
	}
}

// ServerID returns the id under which Run makes this server live.
func (s *Service) ServerID() ServerID { return s.server }

// Run runs the loops (presence, reconciler, retention, activity) until ctx ends, waits
// for all of them, and returns nil. Failures inside are logged and tried again. It
// calls ready once, when the database shows this server as live. Before that the
// server must take no requests: the reconciler of another server would consider
// their operations over.
func (s *Service) Run(ctx context.Context, ready func()) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.loops.presence.run(ctx, ready) })
	wg.Go(func() { s.loops.reconciler.run(ctx) })
	wg.Go(func() { s.loops.retention.run(ctx) })
	wg.Go(func() { s.loops.activity.run(ctx) })
	wg.Wait()
	return nil
}
