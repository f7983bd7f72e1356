package host

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// pools keeps warm clones: VMs restored from template snapshots, renewed
// and exercised once, that wait for a sandbox. A create that finds a clone of
// its kind only has to give it its identity.
//
// A clone belongs to the key of the template snapshot that it came from: if
// anything that snapshots depend on has changed, the key is another one and the
// clone a miss. Clones are journalled like sandboxes, so that one that
// an agent has left behind is found by the next, which ends it.
//
// Invariants: a warm clone in ready belongs to nobody else; its goroutine watches
// the VM until it is taken; filling is true while one goroutine refills.
type pools struct {
	kinds []PoolKind // constant

	mu      sync.Mutex              // protects the following
	ready   map[string][]*warmClone // by template key
	stats   map[string]*poolStats   // by kind, see poolKey
	filling bool
	again   bool // something changed while filling
	closed  bool
}

// PoolKind is how many warm clones are kept of one kind of sandbox.
type PoolKind struct {
	Spec sandbox.Spec // only template, runtime and sizes count
	Size int
}

// PoolInfo is a PoolKind with the state of its pool.
type PoolInfo struct {
	PoolKind
	Ready        int
	Hits, Misses uint64
}

type poolStats struct{ hits, misses uint64 }

// warmClone is a body in the pool. taken is closed when it leaves.
type warmClone struct {
	*body
	key   string // of its template snapshot
	taken chan struct{}
	left  chan struct{} // closed when the watch has ended
}

func poolKey(spec sandbox.Spec) string {
	k := templateSpec(spec)
	return fmt.Sprint(k.Runtime, "/", k.Template, "/", k.VCPUs, "/", k.MemoryMB, "/", k.DiskMB)
}

// take removes a clone of the template snapshot key from the pool.
func (p *pools) take(key string, spec sandbox.Spec) *body {
	p.mu.Lock()
	defer p.mu.Unlock()
	stats := p.stats[poolKey(spec)]
	if stats == nil {
		return nil // a kind that is not kept
	}
	clones := p.ready[key]
	if len(clones) == 0 {
		stats.misses++
		return nil
	}
	stats.hits++
	c := clones[0]
	p.ready[key] = clones[1:]
	close(c.taken)
	return c.body
}

// add puts a clone into the pool and watches its VM. It is false when the pool
// is closed.
func (m *Manager) addClone(c *body, key string) bool {
	w := &warmClone{body: c, key: key, taken: make(chan struct{}), left: make(chan struct{})}
	m.pools.mu.Lock()
	defer m.pools.mu.Unlock()
	if m.pools.closed {
		return false
	}
	m.pools.ready[key] = append(m.pools.ready[key], w)
	exited := c.VM.Exited()
	m.running.Go(func() {
		defer close(w.left)
		select {
		case <-w.taken:
		case <-exited:
			if m.pools.forget(w) {
				c.log.Warn("a warm clone ended by itself", "detail", c.VM.Exit().Detail)
				m.guarded("freeing a warm clone", func() { c.discard(m.life) })
				m.refill()
			}
		}
	})
	return true
}

// forget takes w out of the pool; false if it had left before.
func (p *pools) forget(w *warmClone) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	clones := p.ready[w.key]
	i := slices.Index(clones, w)
	if i < 0 {
		return false
	}
	p.ready[w.key] = slices.Delete(clones, i, i+1)
	return true
}

// drain takes every clone out of the pool; after the last time no more come in.
func (p *pools) drain(last bool) []*warmClone {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = p.closed || last
	var all []*warmClone
	for _, clones := range p.ready {
		all = append(all, clones...)
	}
	clear(p.ready)
	for _, c := range all {
		close(c.taken)
	}
	return all
}

// emptyPools ends every warm clone.
func (m *Manager) emptyPools(ctx context.Context, last bool) {
	for _, c := range m.pools.drain(last) {
		<-c.left
		c.discard(ctx)
	}
}

// Pools returns the state of each pool.
func (m *Manager) Pools() []PoolInfo {
	m.pools.mu.Lock()
	defer m.pools.mu.Unlock()
	out := make([]PoolInfo, 0, len(m.pools.kinds))
	for _, k := range m.pools.kinds {
		key := poolKey(k.Spec)
		info := PoolInfo{PoolKind: k, Hits: m.pools.stats[key].hits, Misses: m.pools.stats[key].misses}
		for _, clones := range m.pools.ready {
			for _, c := range clones {
				if poolKey(c.rec.Spec) == key {
					info.Ready++
				}
			}
		}
		out = append(out, info)
	}
	return out
}

// refill fills the pools in the background. It is called
// whenever that may have become necessary or possible.
func (m *Manager) refill() {
	m.pools.mu.Lock()
	defer m.pools.mu.Unlock()
	if m.pools.closed || len(m.pools.kinds) == 0 {
		return
	}
	if m.pools.filling {
		m.pools.again = true
		return
	}
	m.pools.filling = true
	m.running.Go(func() { m.fillPools(m.life) })
}

// fillPools makes one clone after the other, so that refilling never takes
// more than one CPU, and none while sandboxes are being started or memory is
// short. The operation that ends such a wait calls refill.
func (m *Manager) fillPools(ctx context.Context) {
	for {
		rest := time.NewTimer(refillRest)
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
		}
		made := false
		err := fault.Caught(func() (err error) {
			made, err = m.fillOne(ctx)
			return err
		})
		if err != nil && ctx.Err() == nil {
			m.log.WarnContext(ctx, "a warm clone could not be made; creates restore until the next one is", "error", err)
		}
		m.pools.mu.Lock()
		if err == nil && made || m.pools.again {
			m.pools.again = false
			m.pools.mu.Unlock()
			continue
		}
		m.pools.filling = false
		m.pools.mu.Unlock()
		return
	}
}

// refillRest lies before each clone, so that a sandbox that has just been
// started has the CPU for its first command.
const refillRest = 250 * time.Millisecond

// fillOne makes one clone of the first kind that has too few.
func (m *Manager) fillOne(ctx context.Context) (made bool, err error) {
	for _, info := range m.Pools() {
		if info.Ready >= info.Size || ctx.Err() != nil || !m.mayRefill(info.Spec) {
			continue
		}
		t, err := m.ensureTemplate(ctx, info.Spec, nil)
		if err != nil {
			return false, err
		}
		c := m.newClone(info.Spec, t)
		if err := fault.Caught(func() error { return c.warmUp(ctx, t.dir, t.image.Start) }); err != nil {
			c.discard(ctx)
			return false, err
		}
		if !m.addClone(c, t.key) {
			c.discard(context.WithoutCancel(ctx))
		}
		m.makeRoom(ctx) // sandboxes may have been admitted meanwhile
		return true, nil
	}
	return false, nil
}

// newClone returns a warm clone of t of which nothing exists yet.
func (m *Manager) newClone(spec sandbox.Spec, t template) *body {
	id := sandbox.NewID()
	c := newBody(m, m.layout.machine(string(id)), journal.Record{
		ID: id, Generation: 1, Spec: templateSpec(spec),
		State: sandbox.Pending, Pooled: true, CreatedAt: time.Now(),
		Instance: journal.Instance{TemplateDigest: t.image.Digest, RootImage: t.image.Path},
	})
	return &c
}

// poolMemoryMB is the host memory, in MiB, that a warm clone is expected to need:
// its written pages, and its VMM.
const poolMemoryMB = 96

// mayRefill keeps refilling out of the way of sandboxes that start, and away
// from memory that they need.
func (m *Manager) mayRefill(spec sandbox.Spec) bool {
	if m.starting.Load() > 0 {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.closed && !m.draining && m.roomLocked(spec, m.cloneMemoryMB()) == nil &&
		availableMemoryMB() > m.cfg.MemoryReserveMB+poolMemoryMB && m.diskReserve() == nil
}
