package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// pools keeps warm clones: machines restored from template snapshots, renewed
// and exercised once, that wait for a sandbox. A create that finds one of its
// kind only has to tell it who it is.
//
// A clone belongs to the key of the template snapshot that it came from: if
// anything that snapshots depend on has changed, the key is another one and the
// clone a miss. Clones are journalled like sandboxes, so that one that
// an agent has left behind is found by the next, which ends it.
//
// Invariants: a machine in ready belongs to nobody else; its goroutine watches
// the VM until it is taken; filling is true while one goroutine refills.
type pools struct {
	kinds []PoolKind // constant

	mu      sync.Mutex              // protects the following
	ready   map[string][]*warmClone // by template key
	stats   map[string]*poolStats   // by kind, see kindKey
	filling bool
	again   bool // something changed while filling
	closed  bool
}

// PoolKind is how many warm clones are kept of one kind of sandbox.
type PoolKind struct {
	Spec sandbox.Spec // only template and sizes count
	Size int
}

// PoolInfo is a PoolKind and how it stands.
type PoolInfo struct {
	PoolKind
	Ready        int
	Hits, Misses uint64
}

type poolStats struct{ hits, misses uint64 }

// warmClone is a machine in the pool. taken is closed when it leaves.
type warmClone struct {
	m     *machine
	key   string // of its template snapshot
	taken chan struct{}
	left  chan struct{} // closed when the watch has ended
}

func kindKey(spec sandbox.Spec) string {
	k := kindOf(spec)
	return fmt.Sprint(k.Template, "/", k.VCPUs, "/", k.MemoryMB, "/", k.DiskMB)
}

// take removes a clone of the template snapshot key from the pool.
func (p *pools) take(key string, spec sandbox.Spec) *machine {
	p.mu.Lock()
	defer p.mu.Unlock()
	stats := p.stats[kindKey(spec)]
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
	return c.m
}

// add puts a clone into the pool and watches its VM. It is false when the pool
// is closed.
func (m *Manager) addClone(c *machine, key string) bool {
	w := &warmClone{m: c, key: key, taken: make(chan struct{}), left: make(chan struct{})}
	m.pools.mu.Lock()
	defer m.pools.mu.Unlock()
	if m.pools.closed {
		return false
	}
	m.pools.ready[key] = append(m.pools.ready[key], w)
	exited := c.vm.Exited()
	m.running.Go(func() {
		defer close(w.left)
		select {
		case <-w.taken:
		case <-exited:
			if m.pools.forget(w) {
				c.log.Warn("a warm clone ended by itself", "detail", c.vm.Exit().Detail)
				c.discard(m.life)
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
		c.m.discard(ctx)
	}
}

// Pools tells how the pools stand.
func (m *Manager) Pools() []PoolInfo {
	m.pools.mu.Lock()
	defer m.pools.mu.Unlock()
	out := make([]PoolInfo, 0, len(m.pools.kinds))
	for _, k := range m.pools.kinds {
		key := kindKey(k.Spec)
		info := PoolInfo{PoolKind: k, Hits: m.pools.stats[key].hits, Misses: m.pools.stats[key].misses}
		for _, clones := range m.pools.ready {
			for _, c := range clones {
				if kindKey(c.m.rec.Spec) == key {
					info.Ready++
				}
			}
		}
		out = append(out, info)
	}
	return out
}

// refill sees to it that the pools fill up, in the background. It is called
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
// short. What ends the wait calls refill.
func (m *Manager) fillPools(ctx context.Context) {
	for {
		rest := time.NewTimer(refillRest)
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
		}
		made, err := m.fillOne(ctx)
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
		t, err := m.ensureTemplate(ctx, info.Spec)
		if err != nil {
			return false, err
		}
		c := newMachine(m, record{
			Version: recordVersion, ID: sandbox.NewID(), Generation: 1, Spec: kindOf(info.Spec),
			State: sandbox.Pending, Pooled: true, CreatedAt: time.Now(),
			TemplateDigest: t.image.Digest, RootImage: t.image.Path,
		})
		if err := c.warmUp(ctx, t.dir); err != nil {
			c.discard(ctx)
			return false, err
		}
		if !m.addClone(c, t.key) {
			c.discard(context.WithoutCancel(ctx))
		}
		return true, nil
	}
	return false, nil
}

// poolMemoryMB is what a warm clone is taken to need of the host's memory:
// what it has written, and its VMM.
const poolMemoryMB = 96

// mayRefill keeps refilling out of the way of sandboxes that start, and away
// from memory that they need.
func (m *Manager) mayRefill(spec sandbox.Spec) bool {
	if m.starting.Load() > 0 {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.closed && !m.draining && m.roomLocked(spec.MemoryMB) == nil &&
		availableMemoryMB() > m.cfg.MemoryReserveMB+poolMemoryMB && m.diskReserve() == nil
}

// warmUp makes a clone of the template snapshot dir, lets it become a machine
// of its own, and exercises what a sandbox does first.
func (m *machine) warmUp(ctx context.Context, dir snapshotDir) error {
	if err := os.MkdirAll(string(m.dir), 0o711); err != nil {
		return err
	}
	m.begin("pool")
	for _, s := range []step{
		{StepPoolRecord, func(ctx context.Context) error {
			return errors.Join(m.makeDirs(ctx), m.holdBase(dir))
		}},
		{StepPoolDisk, m.copyDisk},
		{StepPoolNetwork, m.makeNetwork},
		{StepPoolCgroup, func(ctx context.Context) error {
			if err := m.makeCgroup(ctx); err != nil {
				return err
			}
			return m.group.Background(true)
		}},
		{StepPoolVMM, m.restoreBase},
		{StepPoolGuest, func(ctx context.Context) error {
			if err := m.wakeGuest(ctx); err != nil {
				return err
			}
			return m.configure(ctx, renewal{identity: true, token: randomToken()})
		}},
		{StepPoolWarm, m.exercise},
		{StepPoolReady, func(context.Context) error { return m.group.Background(false) }},
	} {
		ctx, cancel := context.WithTimeout(ctx, m.mgr.cfg.BootTimeout)
		err := m.step(ctx, s.name, s.do)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// poolRounds is how often a warm clone does what sandboxes do first: under
// software emulation code is slow until it has been translated.
const poolRounds = 6

// poolCommands run in every warm clone. An image need not have them.
var poolCommands = [][]string{{"true"}, {"/bin/sh", "-c", "true"}}

// exercise runs commands, and does what a create will do, again and again.
func (m *machine) exercise(ctx context.Context) error {
	ctx, stop := m.untilExit(ctx)
	defer stop()
	for range poolRounds {
		for _, argv := range poolCommands {
			_ = m.runQuietly(ctx, argv)
		}
		if err := m.configure(ctx, renewal{token: randomToken(), idle: true}); err != nil {
			return err
		}
	}
	m.rec.Hygiene.NewIdentity = true // see StepPoolGuest, which would have failed
	return nil
}

// discard ends a machine that is no sandbox, and leaves nothing of it.
func (m *machine) discard(ctx context.Context) {
	m.rec.StopReason = sandbox.ReasonDestroyed
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), teardownTimeout)
	defer cancel()
	m.rec.State = sandbox.Pending
	err := m.teardown(ctx)
	if err == nil {
		err = os.RemoveAll(string(m.dir))
	}
	if err != nil {
		m.log.ErrorContext(ctx, "could not free a warm clone; the next agent does", "error", err)
	}
}

// takeClone makes the sandbox of a warm clone, if one of its kind waits.
// taken is false when it still has to be made, err or not.
func (m *machine) takeClone(ctx context.Context) (taken bool, err error) {
	img, err := m.mgr.template(m.rec.Spec.Template)
	if err != nil {
		return false, err
	}
	key, _ := m.mgr.templateKey(m.rec.Spec, img)
	clone := m.mgr.pools.take(key, m.rec.Spec)
	if clone == nil {
		return false, nil
	}
	m.become(clone)
	if err := m.assign(ctx); err != nil {
		if ctx.Err() != nil {
			return true, err
		}
		m.log.WarnContext(ctx, "a warm clone failed when it was taken; restoring another", "error", err)
		return false, m.unbecome(ctx)
	}
	return true, nil
}

// become takes over everything that c consists of.
func (m *machine) become(c *machine) {
	m.name, m.dir, m.held = c.name, c.dir, c.held
	m.vm, m.slot, m.group = c.vm, c.slot, c.group
	c.mu.Lock()
	guest := c.guest
	c.mu.Unlock()
	m.setGuest(guest)
	rec := c.rec
	rec.ID, rec.Generation, rec.Spec, rec.CreatedAt = m.rec.ID, m.rec.Generation, m.rec.Spec, m.rec.CreatedAt
	rec.Pooled, rec.Source, rec.Op, rec.State = false, SourcePool, opCreate, sandbox.Pending
	m.rec = rec
}

// assign tells the clone which sandbox it is.
func (m *machine) assign(ctx context.Context) error {
	ctx, stop := m.untilExit(ctx)
	defer stop()
	if err := m.step(ctx, StepCreateAssign, func(context.Context) error { return nil }); err != nil {
		return err
	}
	err := m.step(ctx, StepCreateConfigure, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, assignTimeout)
		defer cancel()
		// Its machine id and boot id were made new when it was warmed up, and
		// nobody has seen them.
		fresh := m.rec.Hygiene.NewIdentity
		err := m.configure(ctx, renewal{token: randomToken(), idle: true})
		if err == nil {
			m.rec.Hygiene.NewIdentity = fresh
		}
		return err
	})
	if err != nil {
		return err
	}
	return m.step(ctx, StepCreateCommit, m.commitCreate)
}

// assignTimeout is how long a warm clone may take before another is restored.
const assignTimeout = 5 * time.Second

// unbecome frees a clone that failed and makes m a machine of which nothing
// exists yet.
func (m *machine) unbecome(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, teardownTimeout)
	defer cancel()
	if err := errors.Join(m.endVM(ctx), m.endNetwork(ctx), m.endCgroup(ctx)); err != nil {
		return err
	}
	m.dropBase()
	if err := os.RemoveAll(string(m.dir)); err != nil {
		return err
	}
	m.name, m.dir = string(m.rec.ID), m.mgr.layout.machine(string(m.rec.ID))
	m.rec.Token, m.rec.NextToken, m.rec.Base, m.rec.Hygiene = "", "", "", nil
	return nil
}
