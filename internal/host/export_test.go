package host

import (
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Crash ends the agent as a kill does, without the end of its process: nothing
// is cleaned up, and its lock is free. A goroutine that waits in Config.OnStep
// stays there, which is where the agent has died.
func (m *Manager) Crash() {
	m.end()
	_ = m.unlock()
}

// Bury waits until every goroutine of a crashed agent has ended. OnStep must
// have been ended.
func (m *Manager) Bury() { m.running.Wait() }

// Dirs returns the directories of sandboxes, template builds and snapshots.
func (m *Manager) Dirs() (sandboxes, builds, snapshots string) {
	return m.layout.machines(), m.layout.builds(), m.layout.snapshots()
}

// JournalState returns the state in the journal of the sandbox in dir and the
// operation under way, empty for none.
func JournalState(dir string) (state, op string, err error) {
	r, err := journal.Read(dir)
	if err != nil {
		return "", "", err
	}
	return string(r.State), r.Op, nil
}

// SetStartGrace changes the time that a replaced start command has to end, for one test, which runs
// no other one beside it.
func SetStartGrace(t *testing.T, d time.Duration) {
	t.Helper()
	old := startGrace
	startGrace = d
	t.Cleanup(func() { startGrace = old })
}

// SetFreezeGrace changes the additional time of a guest that freezes its processes, for one test,
// which runs no other one beside it.
func SetFreezeGrace(t *testing.T, d time.Duration) {
	t.Helper()
	old := freezeGrace
	freezeGrace = d
	t.Cleanup(func() { freezeGrace = old })
}

// PortQuiet is the time without a byte after which a pause cuts a connection at once.
const PortQuiet = portQuiet

// ProbeWait returns the time between two probes of a guest.
func ProbeWait(interval, unused time.Duration) time.Duration { return probeWait(interval, unused) }

// Followers returns how many readers of processes are attached to a sandbox.
func (m *Manager) Followers(ref sandbox.Ref) int { return m.leases(ref, useFollow) }

// Inputs returns how many inputs to processes of a sandbox wait.
func (m *Manager) Inputs(ref sandbox.Ref) int { return m.leases(ref, useInput) }

func (m *Manager) leases(ref sandbox.Ref, purpose use) int {
	mc, err := m.find(ref.ID)
	if err != nil {
		return 0
	}
	mc.mu.Lock()
	defer mc.mu.Unlock()
	return mc.leasesLocked(purpose)
}
