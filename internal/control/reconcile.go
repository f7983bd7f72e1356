package control

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control/reconcile"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// RunReconciler keeps rows and hosts in agreement, and deletes rows that ended
// long ago, until ctx ends. It waits for all that it started and returns nil.
func (s *Service) RunReconciler(ctx context.Context) error {
	s.firstPasses.start()
	var wg sync.WaitGroup
	for _, h := range s.fleet.Hosts() {
		wg.Go(func() { newHostLoop(s, h.ID).run(ctx) }) // each round of which is guarded
	}
	wg.Go(func() { s.runRetention(ctx) }) // the same
	wg.Wait()
	return nil
}

// maxAtOnce bounds the commands that one pass has under way on a host.
const maxAtOnce = 8

// pass compares all rows and views of one host once and carries the decisions
// out. It returns the time until the next grace period ends; zero if no grace
// period is running.
//
// Rows are read before the host is asked, so that a row without a view has no
// VM. In between, operationsOver finds the operations that are over.
func (s *Service) pass(ctx context.Context, hostID string, memory *passMemory) (time.Duration, error) {
	if _, err := s.observe(ctx, hostID); err != nil {
		return 0, err
	}
	host, ok := s.fleet.Host(hostID)
	if !ok {
		return 0, fault.New(fault.Internal, "host_unknown", "host %s is not in the fleet", hostID)
	}
	pairs, err := s.pairs(ctx, host, hostID)
	if err != nil {
		return 0, err
	}
	s.noteViews(pairs)
	s.healths.notePairs(pairs)
	decisions := memory.sandboxes.Step(time.Now(), factsOf(pairs))
	slots := make(chan struct{}, maxAtOnce)
	var wg sync.WaitGroup
	for i, p := range pairs {
		d := decisions[i]
		if d.Action == reconcile.None && !newsIn(p.row, p.view) && clocksOff(p.row, p.view) == (TimeoutChange{}) {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			s.guarded("reconciling a sandbox", func() error { s.reconcileOne(ctx, host, p, d); return nil })
		})
	}
	wg.Wait()
	due := memory.sandboxes.Due(time.Now())
	young := time.Since(memory.startedAt) < startTime
	if slices.ContainsFunc(pairs, func(p pair) bool { return s.soonOver(p, young) }) && (due == 0 || due > soonRetry) {
		due = soonRetry
	}
	if err := s.snapshotPass(ctx, host, hostID, memory.snapshots); err != nil {
		return due, err
	}
	s.firstPasses.record(hostID)
	return due, nil
}

const (
	// soonRetry is how soon an operation is looked at again that is about to be
	// over, see soonOver.
	soonRetry = time.Second
	// startTime is how long after the start of a server the database may still
	// take its predecessor for live.
	startTime = 15 * time.Second
)

// soonOver reports whether the operation behind p's row is about to be known to
// be over: the host still works for a server that has ended, this server had
// an operation on a sandbox about which row and host disagree or, in a young
// server, the operation may be its predecessor's.
func (s *Service) soonOver(p pair, young bool) bool {
	switch {
	case p.over:
		return !p.certain()
	case p.row == nil || !between(p.row.State) || p.row.Server == 0:
		return false
	case p.row.Server == s.id:
		return !p.agrees()
	default:
		return young
	}
}

// reconcileOne carries out the decision about one pair. Where row and view agree
// it copies the host's facts to the row and the row's clocks to the host.
func (s *Service) reconcileOne(ctx context.Context, host Host, p pair, d reconcile.SandboxDecision) {
	if d.Action != reconcile.None {
		s.applyLogged(ctx, host, p, d)
		return
	}
	err := s.learn(ctx, p)
	if err == nil {
		err = s.pushClocks(ctx, p)
	}
	if err != nil {
		s.log.Warn("clocks or facts of a sandbox not reconciled, will try again", "sandbox", p.id(), "error", err)
	}
}

// pairs reads both sides of a host. A view without a live row is looked up by
// its id, for it may have ended, or be younger than the first reading.
func (s *Service) pairs(ctx context.Context, host Host, hostID string) ([]pair, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*s.cfg.AskTimeout)
	defer cancel()
	// Both before and after: an operation may begin while the rows are read, and
	// one that ends meanwhile may have moved its row on since.
	busy := s.underway.all()
	rows, err := s.store.Unended(ctx, hostID)
	if err != nil {
		return nil, err
	}
	maps.Copy(busy, s.underway.all())
	over, err := s.operationsOver(ctx, rows, busy)
	if err != nil {
		return nil, err
	}
	views, err := host.Sandboxes(ctx)
	if err != nil {
		return nil, err
	}
	viewOf := make(map[sandbox.ID]*View, len(views))
	for i := range views {
		viewOf[views[i].Ref.ID] = &views[i]
	}
	pairs := make([]pair, 0, len(rows))
	for i := range rows {
		pairs = append(pairs, pair{row: &rows[i], view: viewOf[rows[i].ID], over: over[rows[i].ID]})
		delete(viewOf, rows[i].ID)
	}
	for i := range views { // in the host's order, so that passes are reproducible
		if viewOf[views[i].Ref.ID] == nil {
			continue
		}
		p, err := s.lookUp(ctx, hostID, &views[i])
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, p)
	}
	return pairs, nil
}

// lookUp finds the row for a view. A row that belongs to another host is none.
func (s *Service) lookUp(ctx context.Context, hostID string, view *View) (pair, error) {
	row, err := s.store.Get(ctx, view.Ref.ID)
	switch {
	case fault.Is(err, fault.NotFound):
		return pair{view: view}, nil
	case err != nil:
		return pair{}, err
	case row.HostID != hostID:
		return pair{view: view}, nil
	}
	return pair{row: &row, view: view}, nil
}

// noteViews takes over the last activity that only hosts see, such as traffic
// to a port.
func (s *Service) noteViews(pairs []pair) {
	seen := make(map[sandbox.ID]time.Time)
	for _, p := range pairs {
		if p.row == nil || p.view == nil || p.view.LastActiveAt.IsZero() {
			continue
		}
		if p.row.LastActiveAt == nil || p.view.LastActiveAt.Sub(*p.row.LastActiveAt) > time.Second {
			seen[p.row.ID] = p.view.LastActiveAt
		}
	}
	s.activity.merge(seen)
}

// apply carries out the decision d about p. A lost compare-and-set is no error:
// the winner had newer knowledge.
func (s *Service) apply(ctx context.Context, host Host, p pair, d reconcile.SandboxDecision) error {
	switch d.Action {
	case reconcile.Move:
		m := Move{Ref: p.row.Ref(), From: p.row.State, To: d.To, StopReason: d.Reason, Message: d.Message}
		if d.To == sandbox.Running {
			m.Facts = &p.view.Facts
		}
		_, _, err := s.move(ctx, m)
		return err
	case reconcile.Delete:
		ctx, cancel := context.WithTimeout(ctx, s.cfg.DestroyTimeout)
		defer cancel()
		// With the generation of the view: exactly this VM must not exist, and a
		// newer one is not affected.
		return host.Destroy(ctx, p.view.Ref, sandbox.ReasonDestroyed)
	case reconcile.Pause:
		ctx, cancel := context.WithTimeout(ctx, s.cfg.PauseTimeout)
		defer cancel()
		_, err := host.Pause(ctx, p.view.Ref)
		return err
	default:
		return nil
	}
}

// applyLogged is apply for the loop, which logs the errors.
func (s *Service) applyLogged(ctx context.Context, host Host, p pair, d reconcile.SandboxDecision) {
	log := s.log.With("sandbox", p.id(), "row", p.rowState(), "view", p.viewState(), "action", string(d.Action))
	if d.Action == reconcile.Report {
		log.Error("row and host disagree in a way that no rule resolves; destroy the sandbox")
		return
	}
	if err := s.apply(ctx, host, p, d); err != nil {
		log.Warn("row and host not reconciled, will try again", "error", err)
		return
	}
	level := slog.LevelInfo
	if p.row != nil && (p.row.State.Ended() || p.row.State == sandbox.Stopping) {
		level = slog.LevelDebug // every destroy ends like this
	}
	log.Log(ctx, level, "row and host reconciled", "to", string(d.To), "reason", string(d.Reason))
}

// retentionBatch is how many rows one DELETE takes, so that none runs long.
const retentionBatch = 500

// runRetention deletes ended rows past their retention until ctx ends.
func (s *Service) runRetention(ctx context.Context) {
	tick := time.NewTicker(s.cfg.ReconcileInterval)
	defer tick.Stop()
	for {
		if err := fault.Caught(func() error { return s.deleteEnded(ctx) }); err != nil && ctx.Err() == nil {
			s.log.Warn("what has ended is not deleted, will try again", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Service) deleteEnded(ctx context.Context) error {
	if err := s.store.RemoveFailedSnapshots(ctx, s.cfg.Retention); err != nil {
		return err
	}
	for {
		n, err := s.store.DeleteEnded(ctx, s.cfg.Retention, retentionBatch)
		if err != nil || n < retentionBatch {
			return err
		}
	}
}
