package bench

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// The values of a sandbox's field source.
const (
	sourcePool    = "pool"
	sourceRestore = "restore"
)

// The run polls the state of warm pools, because the API has no event for it.
const (
	poolPoll = 100 * time.Millisecond
	// poolLimit bounds one wait. A pool of ten clones fills in less.
	poolLimit = 45 * time.Second
)

// diskStep is the amount of disk, in MiB, by which a size is made to differ from
// the sizes of pools.
const diskStep = 64

// sizeWithoutPool returns size with a larger disk, so that no pool of the hosts
// keeps clones of it.
func sizeWithoutPool(size Size, hosts []client.Host) Size {
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

// awaitFullPools waits until every pool is full, because a host that refills a
// pool slows down the measured operations. It gives up after poolLimit without
// an error.
func (r *run) awaitFullPools(ctx context.Context) error {
	last := r.pools.get()
	return r.poll(ctx, func(hosts []client.Host) bool {
		return full(hosts, last.there)
	})
}

// full reports whether every pool has reached its target. It ignores reports of
// hosts from before after, a time of the server's clock.
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

// awaitClone waits until a warm clone of Size is ready. The error wraps
// errPermanent if there is no pool of that size, or none fills.
func (r *run) awaitClone(ctx context.Context) error {
	hasPool, ready := false, 0
	err := r.poll(ctx, func(hosts []client.Host) bool {
		hasPool, ready = r.clones(hosts)
		return !hasPool || ready > 0
	})
	switch {
	case err != nil:
		return err
	case !hasPool:
		return fmt.Errorf("%w: no host keeps a pool of this template and size", errPermanent)
	case ready == 0:
		return fmt.Errorf("%w: no warm clone was ready within %v", errPermanent, poolLimit)
	default:
		return nil
	}
}

// clones reports whether a host has a pool of Size, and the number of its clones
// that are ready.
func (r *run) clones(hosts []client.Host) (hasPool bool, ready int) {
	for _, h := range hosts {
		for _, p := range h.Pools {
			if p.Template == r.template && r.owns(p) && sizeOf(p) == r.Size && p.Target > 0 {
				hasPool, ready = true, ready+p.Ready
			}
		}
	}
	return hasPool, ready
}

// owns reports whether a pool has clones of this run's runtime.
func (r *run) owns(p client.Pool) bool { return r.subject == "" || p.Runtime == string(r.subject) }

// poolUse is the last time at which a create may have taken a warm clone, by
// this machine's clock and by the server's, which may differ.
type poolUse struct{ here, there time.Time }

// poolWatch holds the last use of any pool of the server. It is safe for concurrent
// use.
type poolWatch struct {
	mu   sync.Mutex
	last poolUse
}

func (w *poolWatch) set(there time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = poolUse{here: time.Now(), there: there}
}

func (w *poolWatch) get() poolUse {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// poll lists the hosts until enough returns true or poolLimit has passed, which
// is not an error.
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

// recordCreate adds the times of a create to the measurement of its source. Only
// the server knows whether a sandbox came from the pool.
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
