package control

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Get implements Sandboxes.
func (s *Service) Get(ctx context.Context, id sandbox.ID) (Sandbox, error) {
	row, err := s.store.Get(ctx, id)
	return s.healths.over(row), err
}

// List implements Sandboxes.
func (s *Service) List(ctx context.Context, f Filter) ([]Sandbox, string, error) {
	rows, next, err := s.store.List(ctx, f)
	for i, row := range rows {
		rows[i] = s.healths.over(row)
	}
	return rows, next, err
}

const (
	// hostsFresh is how old an answer of a host may be that is shown to a user.
	hostsFresh = time.Second
	// hostsPatience is how long the user waits for a host that does not answer.
	hostsPatience = 2 * time.Second
)

// Hosts implements Sandboxes. Hosts that have not answered lately are asked
// again first, all at once.
func (s *Service) Hosts(ctx context.Context) ([]HostInfo, error) {
	asking, cancel := context.WithTimeout(ctx, hostsPatience)
	defer cancel()
	hosts, _ := s.observeWhere(asking, func(h HostInfo) bool { return time.Since(h.SeenAt) > hostsFresh })
	return hosts, ctx.Err()
}

// remembered returns the hosts' last reports. If no host could be reached, it asks
// all of them again first.
func (s *Service) remembered(ctx context.Context) ([]HostInfo, error) {
	if hosts := s.fleet.Hosts(); slices.ContainsFunc(hosts, func(h HostInfo) bool { return h.Reachable }) {
		return hosts, nil
	}
	return s.observeWhere(ctx, func(HostInfo) bool { return true })
}

// observeWhere asks the hosts that stale selects, and returns the reports of all.
func (s *Service) observeWhere(ctx context.Context, stale func(HostInfo) bool) ([]HostInfo, error) {
	var wg sync.WaitGroup
	for _, h := range s.fleet.Hosts() {
		if stale(h) {
			// The fleet records that a host did not answer.
			wg.Go(func() {
				s.guarded("asking a host", func() error { _, _ = s.observe(ctx, h.ID); return nil })
			})
		}
	}
	wg.Wait()
	return s.fleet.Hosts(), ctx.Err()
}

// Ready implements Sandboxes.
func (s *Service) Ready(ctx context.Context) error {
	if err := s.store.Ping(ctx); err != nil {
		return err
	}
	hosts, err := s.remembered(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(hosts, func(h HostInfo) bool { return h.Reachable }) {
		return s.firstPasses.ready(hosts)
	}
	return fault.New(fault.HostFailed, "host_unreachable", "no host agent can be reached")
}

// observe asks one host for its present facts and records the answer, so that rows
// can be placed on it.
func (s *Service) observe(ctx context.Context, id string) (HostInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.AskTimeout)
	defer cancel()
	info, err := s.fleet.Refresh(ctx, id)
	if err != nil {
		return info, err
	}
	return info, s.store.SaveHost(ctx, info, s.cfg.capacityOf(info))
}

// ask returns the host's view of one sandbox, nil when the host does not know it.
func (s *Service) ask(ctx context.Context, host Host, id sandbox.ID) (*View, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.AskTimeout)
	defer cancel()
	return host.Sandbox(ctx, id)
}

// reconcileNow asks row's host about the sandbox and reconciles the row, after an
// operation on it that is over. It returns the row afterwards.
func (s *Service) reconcileNow(ctx context.Context, host Host, row Sandbox) (Sandbox, error) {
	view, err := s.ask(ctx, host, row.ID)
	if err != nil {
		return row, err
	}
	p := pair{row: &row, view: view}
	if err := s.apply(ctx, host, p, p.decide(true)); err != nil {
		return row, err
	}
	return s.store.Get(ctx, row.ID)
}

// withCleanup adds the error of a clean-up to the cause of err, whose kind and
// sentence stay. A nil cleanup error changes nothing.
func withCleanup(err, cleanup error) error {
	if cleanup == nil {
		return err
	}
	f := fault.As(err)
	return fault.Wrap(errors.Join(err, cleanup), f.Kind, f.Reason, "%s", f.Public)
}
