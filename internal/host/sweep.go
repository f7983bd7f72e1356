package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/snapshot"
)

// sweepTimeout bounds one pass over the leftovers.
const sweepTimeout = 20 * time.Second

// leftovers lists the resources on this host that belong to sandboxes, warm clones
// and template builds, so that the others can be removed. Their directories decide:
// a directory exists from before the first process, network or cgroup is made until
// after the last one is gone.
//
// It is constant once Open has returned.
type leftovers struct {
	// networks are the names that journals held when the agent started.
	networks map[string]bool
	// builds are the directories of template builds that the agent found when
	// it started. No build continues them.
	builds map[string]bool
	// ephemeral are the snapshots of forks that the earlier agent did not end.
	ephemeral []snapshot.Dir
}

// findLeftovers records resources that can be told apart only at the agent's start.
func (m *Manager) findLeftovers(networks map[string]bool) {
	m.leftovers = leftovers{networks: networks, builds: make(map[string]bool)}
	entries, _ := os.ReadDir(m.layout.builds()) // the next agent removes those that an error hides
	for _, e := range entries {
		m.leftovers.builds[e.Name()] = true
	}
	snapshots, _ := filepath.Glob(filepath.Join(m.layout.snapshots(), "[a-z0-9]*"))
	for _, dir := range snapshots {
		if mf, err := snapshot.ReadManifest(snapshot.Dir(dir)); err == nil && mf.Ephemeral {
			m.leftovers.ephemeral = append(m.leftovers.ephemeral, snapshot.Dir(dir))
		}
	}
}

// owned reports whether a directory called name exists, so that processes and
// cgroups of that name have an owner. It is true also if that cannot be read.
func (m *Manager) owned(name string) bool {
	if _, err := os.Lstat(string(m.layout.machine(name))); !errors.Is(err, os.ErrNotExist) {
		return true
	}
	_, err := os.Lstat(filepath.Join(m.layout.builds(), name))
	return !errors.Is(err, os.ErrNotExist) && !m.leftovers.builds[name]
}

// sweep removes processes, networks and cgroups that no directory owns. Resources
// that a journal names are never swept, also where freeing them has failed so far.
// It may be called at any time; a part that fails does not stop the others.
func (m *Manager) sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	errs := []error{m.sweepProcesses(ctx)}
	// Processes that still live keep nothing from being swept: their directories
	// are gone.
	swept, err := m.deps.Network.Sweep(ctx, func(name string) bool { return m.leftovers.networks[name] })
	if len(swept) > 0 {
		m.log.WarnContext(ctx, "removed networks without a journal", "networks", swept)
	}
	errs = append(errs, err)
	swept, err = m.deps.Cgroups.Sweep(ctx, m.owned)
	if len(swept) > 0 {
		m.log.WarnContext(ctx, "removed cgroups without a journal", "cgroups", swept)
	}
	return errors.Join(append(errs, err)...)
}

func (m *Manager) sweepProcesses(ctx context.Context) error {
	processes, err := m.drivers.Find(m.layout.root)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range processes {
		if m.owned(filepath.Base(filepath.Dir(p.Dir))) {
			continue
		}
		m.log.WarnContext(ctx, "killing a VM without a journal", "pid", p.PID, "dir", p.Dir)
		errs = append(errs, m.drivers.KillRecord(ctx, p))
	}
	return errors.Join(errs...)
}

// sweepAtStart removes leftovers of an earlier agent. A failure is logged and tried
// again in the background.
func (m *Manager) sweepAtStart(ctx context.Context) {
	if err := m.sweep(ctx); err != nil {
		m.log.WarnContext(ctx, "could not remove everything that no sandbox owns; trying again in the background", "error", err)
		m.chores.add(m, "sweep", m.sweep)
	}
	if err := m.collectAtStart(ctx); err != nil {
		m.log.WarnContext(ctx, "could not remove all files that an earlier agent left; trying again in the background", "error", err)
		m.chores.add(m, "collect", m.collectAtStart)
	}
}
