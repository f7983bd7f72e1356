package control

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Service implements [API]. It is safe for concurrent use.
//
// Invariants: no state of a sandbox lives in it, only last-activity times that
// have not been written yet, an estimate of the hosts' loads, the health that they
// last reported, the operations under way here, and their waiters; every move of a
// row is a compare-and-set, so any number of Services may share a database; it
// starts no goroutine outside Run.
type Service struct {
	// Constant after New.
	cfg   Config
	store Store
	fleet Fleet
	log   *slog.Logger
	// id is new for each Service.
	id ServerID

	activity    *activity
	loads       *loads
	transitions *transitions
	underway    *underway
	wakes       *wakes
	healths     *healths
	firstPasses *firstPasses
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
	return &Service{
		cfg: cfg, store: store, fleet: fleet, log: log, id: ServerID(1 + rand.Int64N(math.MaxInt64)),
		activity: newActivity(store), loads: newLoads(store), transitions: newTransitions(),
		underway: newUnderway(), wakes: newWakes(), healths: newHealths(), firstPasses: newFirstPasses(),
	}, nil
}

// Run runs the loops (presence, reconciler, retention, activity) until ctx ends, waits
// for all of them, and returns nil. Failures inside are logged and tried again. It
// calls ready once, when the database shows this server as live. Before that the
// server must take no requests: the reconciler of another server would consider
// their operations over.
func (s *Service) Run(ctx context.Context, ready func()) error {
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.RunPresence(ctx, ready) })
	wg.Go(func() { _ = s.RunReconciler(ctx) })
	wg.Go(func() { _ = s.RunActivity(ctx) })
	wg.Wait()
	return nil
}

// guarded calls do, which owns its errors. A panic in it is logged and ends do
// alone; the next pass of the reconciler finishes its work.
func (s *Service) guarded(what string, do func() error) {
	if err := fault.Caught(do); err != nil {
		s.log.Error(what+" failed", "error", err)
	}
}

// detached returns a context for an operation that moves a sandbox. It goes on
// when the caller hangs up: an operation given up half-way would leave a row
// in between and a host at work, for nobody. Its own deadline ends it; the
// time to ask comes on top, for the database after the host's answer.
func (s *Service) detached(ctx context.Context, work time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), work+s.cfg.AskTimeout)
}

// hostOf returns the connection to the host that has row.
func (s *Service) hostOf(row Sandbox) (Host, error) {
	h, ok := s.fleet.Host(row.HostID)
	if !ok {
		return nil, fault.New(fault.HostFailed, "host_unknown", "the sandbox's host is not part of this installation any more")
	}
	return h, nil
}

// wrongState is the fault of an operation that row's state forbids.
func wrongState(row Sandbox, want sandbox.Status) error {
	if row.State.Ended() || row.State == sandbox.Stopping {
		why := string(row.State.Status())
		if row.StopReason != "" {
			why += ": " + string(row.StopReason)
		}
		return fault.New(fault.WrongState, ReasonEnded, "the sandbox has ended (%s)", why)
	}
	return fault.New(fault.WrongState, "sandbox_not_"+string(want),
		"the sandbox is %s; it must be %s for this", row.State, want)
}
