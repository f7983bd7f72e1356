package host

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sync/semaphore"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/host/snapshot"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/linux/flock"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Manager owns every machine of this host.
//
// Invariants: a machine is in the map from before its first file exists until
// after its last one is gone; there is one Manager per data directory, which
// the lock file enforces.
type Manager struct {
	cfg     Config
	deps    Deps
	drivers vmm.Drivers
	layout  layout
	log     *slog.Logger
	lock    *os.File
	// reflink: files of the data directory can share blocks.
	reflink bool
	boots   *semaphore.Weighted
	events  broadcaster
	// life is cancelled by Close; machines end their goroutines on it.
	life    context.Context
	end     context.CancelFunc
	running sync.WaitGroup

	bootRetries atomic.Uint64
	// starting counts creates and resumes under way.
	starting  atomic.Int64
	templates templates
	pools     pools
	snapshots *snapshot.Store
	chores    chores
	leftovers leftovers

	mu       sync.Mutex // protects the following
	machines map[sandbox.ID]*machine
	draining bool
	closed   bool
}

// Open takes over the sandboxes of an earlier agent in cfg.Dir and returns once
// each is running, paused or stopped again. It fails where another agent uses the
// directory.
func Open(ctx context.Context, cfg Config, deps Deps) (*Manager, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(deps); err != nil {
		return nil, err
	}
	if cfg.HostID == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, err
		}
		cfg.HostID = name
	}
	m := newManager(ctx, cfg, deps)
	err := os.MkdirAll(cfg.Dir, 0o700)
	if err == nil {
		m.lock, err = lockDir(m.layout.lock())
	}
	if err != nil {
		return nil, err
	}
	if err := m.recoverLocked(ctx); err != nil {
		m.end()
		_ = m.lock.Close()
		return nil, err
	}
	for _, spec := range cfg.Prepare {
		m.running.Go(func() { m.guarded("preparing a template snapshot", func() { m.prepare(spec) }) })
	}
	m.running.Go(func() { m.watchHealth(m.life) })
	m.running.Go(func() { m.keepImages(m.life) })
	m.refill()
	return m, nil
}

// recoverLocked checks and completes the data directory, whose lock the caller
// holds, and recovers the sandboxes of the journal.
func (m *Manager) recoverLocked(ctx context.Context) error {
	if err := claimFormat(m.layout); err != nil {
		return err
	}
	// No VM process opens anything in them: it gets its files open, or bound.
	// Earlier agents made them so that VM processes could pass through.
	err := os.MkdirAll(m.cfg.TemplateDir, 0o700)
	for _, dir := range []string{m.layout.machines(), m.layout.builds(), m.layout.snapshots()} {
		err = errors.Join(err, os.MkdirAll(dir, 0o700), os.Chmod(dir, 0o700))
	}
	if err != nil {
		return err
	}
	can, err := disk.Probe(m.cfg.Dir)
	m.reflink = can.Reflink
	if err != nil {
		return err
	}
	return m.recover(ctx)
}

// newManager returns a Manager that has read and started nothing yet.
func newManager(ctx context.Context, cfg Config, deps Deps) *Manager {
	m := &Manager{
		cfg: cfg, deps: deps, drivers: deps.Drivers, layout: layout{root: cfg.Dir}, log: deps.Log,
		boots: semaphore.NewWeighted(int64(cfg.BootConcurrency)), machines: make(map[sandbox.ID]*machine),
	}
	m.templates.building = make(map[string]*templateBuild)
	m.snapshots = snapshot.New(snapshot.Options{
		Drivers: deps.Drivers, Log: deps.Log, Root: cfg.Dir, Named: m.layout.snapshots(), Templates: m.layout.templates(),
		SharedTemplates: cfg.TemplateDir, Current: m.current,
	})
	m.pools.ready, m.pools.stats = make(map[string][]*warmClone), make(map[string]*poolStats)
	for _, k := range cfg.Pools {
		k.Spec = m.resolved(k.Spec)
		m.pools.kinds = append(m.pools.kinds, k)
		m.pools.stats[poolKey(k.Spec)] = &poolStats{}
	}
	m.life, m.end = context.WithCancel(context.WithoutCancel(ctx))
	return m
}

// guarded calls do, which owns its errors. A panic in it is logged and ends do
// alone.
func (m *Manager) guarded(what string, do func()) {
	if err := fault.Caught(func() error { do(); return nil }); err != nil {
		m.log.Error(what+" failed", "error", err)
	}
}

// starts counts a start of a sandbox until the function it returns is called.
func (m *Manager) starts() (done func()) {
	m.starting.Add(1)
	return func() {
		if m.starting.Add(-1) == 0 {
			m.refill()
		}
	}
}

// prepare makes a template snapshot before anybody asks for it.
func (m *Manager) prepare(spec sandbox.Spec) {
	if _, err := m.ensureTemplate(m.life, m.resolved(spec), nil); err != nil && m.life.Err() == nil {
		m.log.Warn("a template snapshot could not be prepared; the first sandbox of its kind tries again", "error", err)
	}
}

// lockDir takes the lock that keeps a second agent out. It ends with the process.
func lockDir(path string) (*os.File, error) {
	f, err := flock.Open(path)
	if err != nil {
		return nil, err
	}
	if err := flock.Try(f); err != nil {
		_ = f.Close()
		return nil, fault.Wrap(err, fault.Exists, "agent_running", "another host agent uses %s", filepath.Dir(path))
	}
	return f, nil
}

// Close stops the goroutines and leaves the VMs of sandboxes running, for the
// next agent to take over. Warm clones are ended. Operations under way are cut
// off where they are, as in a crash.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.emptyPools(m.life, true)
	m.end()
	m.running.Wait()
	return m.unlock()
}

// unlock frees the data directory for another agent. A program that is just being
// started may still share the file, so that closing it is not enough.
func (m *Manager) unlock() error {
	return errors.Join(syscall.Flock(int(m.lock.Fd()), syscall.LOCK_UN), m.lock.Close())
}

// Create starts a sandbox and returns when commands can run in it. A second
// call with the same Ref and Spec joins the first. The start continues when ctx
// ends; only Destroy stops it.
func (m *Manager) Create(ctx context.Context, ref sandbox.Ref, spec sandbox.Spec) (Sandbox, error) {
	return m.created(ctx, ref, spec, "")
}

// CreateFrom is Create for a copy of a snapshot, processes running, or booted from the
// disk of one without memory. Template, runtime
// and sizes are the snapshot's, and those of spec are ignored; the environment is the
// snapshot's with that of spec over it.
func (m *Manager) CreateFrom(ctx context.Context, ref sandbox.Ref, spec sandbox.Spec, from sandbox.SnapshotID) (Sandbox, error) {
	mf, err := snapshot.ReadManifest(m.layout.snapshot(from))
	if err != nil {
		return Sandbox{}, fault.Wrap(err, fault.NotFound, "snapshot_not_found", "this host has no snapshot with the id %s", from)
	}
	if _, err := os.Stat(m.layout.snapshot(from).Deleted()); err == nil {
		return Sandbox{}, fault.New(fault.NotFound, "snapshot_not_found", "the snapshot %s has been deleted", from)
	}
	kind, env := templateSpec(mf.Spec), maps.Clone(mf.Spec.Env)
	spec.Template, spec.VCPUs, spec.MemoryMB, spec.DiskMB = kind.Template, kind.VCPUs, kind.MemoryMB, kind.DiskMB
	spec.Runtime = kind.Runtime
	if env == nil {
		env = spec.Env
	} else {
		maps.Copy(env, spec.Env)
	}
	spec.Env = env
	return m.created(ctx, ref, spec, from)
}

func (m *Manager) created(ctx context.Context, ref sandbox.Ref, spec sandbox.Spec, from sandbox.SnapshotID) (Sandbox, error) {
	mc, err := m.register(ref, spec, from)
	if err != nil {
		return Sandbox{}, err
	}
	select {
	case <-mc.booted:
		return mc.snapshotView(), mc.bootErr
	case <-ctx.Done():
		return Sandbox{}, context.Cause(ctx)
	}
}

// register enters a new machine in the map, or returns the one that the same
// call made before.
func (m *Manager) register(ref sandbox.Ref, spec sandbox.Spec, from sandbox.SnapshotID) (*machine, error) {
	use := m.measureDisk()
	m.mu.Lock()
	defer m.mu.Unlock()
	if mc, ok := m.machines[ref.ID]; ok {
		view := mc.snapshotView()
		if view.Ref == ref && sameSpec(view.Spec, spec) && view.State != sandbox.Stopped {
			return mc, nil
		}
		return nil, fault.New(fault.Exists, "sandbox_exists", "this host already has a sandbox with the id %s", ref.ID)
	}
	spec = m.resolved(spec)
	if err := m.admitLocked(spec, use); err != nil {
		return nil, err
	}
	mc := newMachine(m, journal.Record{ID: ref.ID, Generation: ref.Generation, Spec: spec, State: sandbox.Pending, SnapshotID: from})
	m.startLocked(mc, func(ctx context.Context) { mc.create(ctx) })
	return mc, nil
}

// sameSpec compares the spec of a sandbox with that of a request, which may leave the
// choice of the runtime to the host.
func sameSpec(have, asked sandbox.Spec) bool {
	asked.Runtime = cmp.Or(asked.Runtime, have.Runtime)
	return reflect.DeepEqual(have, asked)
}

// startLocked enters mc and starts its goroutine, whose first act is first.
// mu must be held and closed must be false.
func (m *Manager) startLocked(mc *machine, first func(context.Context)) {
	m.machines[mc.rec.ID] = mc
	m.running.Go(func() { mc.run(m.life, first) }) // which guards each operation
}

// find returns the machine of id. The caller checks the generation.
func (m *Manager) find(id sandbox.ID) (*machine, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	mc, ok := m.machines[id]
	if !ok {
		return nil, fault.New(fault.NotFound, "sandbox_not_found", "this host has no sandbox with the id %s", id)
	}
	return mc, nil
}

// forget drops a machine whose files are gone.
func (m *Manager) forget(mc *machine) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.machines[mc.rec.ID] == mc {
		delete(m.machines, mc.rec.ID)
	}
	m.refill()
}
