package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// How a sandbox was made, as the API says it.
const (
	sourcePool    = "pool"
	sourceRestore = "restore"
)

// How the run waits for warm pools. The API tells how they stand and sends no
// word when that changes, so it is asked again.
const (
	poolPoll = 100 * time.Millisecond
	// poolLimit is longer than it takes to fill a pool of some ten clones.
	poolLimit = 45 * time.Second
)

// diskStep makes another kind of sandbox of one that a pool keeps, in MiB.
const diskStep = 64

// notKept returns size with as much more disk as it takes to be a kind of
// which no pool of the hosts keeps clones.
func notKept(size Size, hosts []client.Host) Size {
	for {
		size.DiskMB += diskStep
		if !slices.ContainsFunc(hosts, func(h client.Host) bool {
			return slices.ContainsFunc(h.Pools, func(p client.Pool) bool { return sizeOf(p) == size })
		}) {
			return size
		}
	}
}

func sizeOf(p client.Pool) Size { return Size{VCPUs: p.VCPUs, MemoryMB: p.MemoryMB, DiskMB: p.DiskMB} }

// settle waits until no pool is being refilled, as far as that can be told: the
// host would do that beside what is measured. A pool that does not fill up is
// no reason to wait for long.
func (r *run) settle(ctx context.Context) error {
	r.mu.Lock()
	last := r.drawn
	r.mu.Unlock()
	return r.poll(ctx, func(hosts []client.Host) bool {
		return full(hosts, last.there)
	})
}

// full says whether every pool has what it should have, by news from after a
// time of the server's clock.
func full(hosts []client.Host, after time.Time) bool {
	for _, h := range hosts {
		if h.SeenAt == nil || !h.SeenAt.After(after) {
			return false
		}
		if slices.ContainsFunc(h.Pools, func(p client.Pool) bool { return p.Ready < p.Target }) {
			return false
		}
	}
	return true
}

// awaitClone waits until a warm clone of the size is ready. Where none will
// be, the error wraps errNotHere.
func (r *run) awaitClone(ctx context.Context) error {
	kept, ready := false, 0
	err := r.poll(ctx, func(hosts []client.Host) bool {
		kept, ready = r.clones(hosts)
		return !kept || ready > 0
	})
	switch {
	case err != nil:
		return err
	case !kept:
		return fmt.Errorf("%w: no host keeps a pool of this template and size", errNotHere)
	case ready == 0:
		return fmt.Errorf("%w: no warm clone was ready within %v", errNotHere, poolLimit)
	default:
		return nil
	}
}

// clones counts the warm clones of the size that are ready.
func (r *run) clones(hosts []client.Host) (kept bool, ready int) {
	for _, h := range hosts {
		for _, p := range h.Pools {
			if p.Template == r.template && sizeOf(p) == r.Size && p.Target > 0 {
				kept, ready = true, ready+p.Ready
			}
		}
	}
	return kept, ready
}

// poll asks for the hosts until enough of them, or poolLimit has passed, which
// is no error.
func (r *run) poll(ctx context.Context, enough func([]client.Host) bool) error {
	limit := time.NewTimer(poolLimit)
	defer limit.Stop()
	tick := time.NewTicker(poolPoll)
	defer tick.Stop()
	for {
		hosts, err := r.Client.Hosts(ctx)
		if err != nil {
			return fmt.Errorf("hosts: %w", err)
		}
		if enough(hosts) {
			return nil
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// recordCreate puts a create where it belongs: the server alone knows whether
// it came from the pool.
func (r *run) recordCreate(sb *client.Sandbox, create, toExec time.Duration) error {
	source := ""
	if sb.Source != nil {
		source = *sb.Source
	}
	switch source {
	case sourcePool:
		r.addTime(opPool, create)
		r.addTime(opPoolExec, toExec)
	case sourceRestore:
		r.addTime(opRestore, create)
		r.addTime(opRestoreExec, toExec)
	default:
		return fmt.Errorf("the server does not say how sandbox %s was made: %q", sb.ID, source)
	}
	return nil
}
