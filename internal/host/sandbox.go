package host

import (
	"maps"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Sandbox describes a sandbox of this host at one moment, for callers.
type Sandbox struct {
	Ref   sandbox.Ref
	Spec  sandbox.Spec
	State sandbox.State
	// StopReason is set once State is Stopped.
	StopReason      sandbox.StopReason
	GuestIP, HostIP string
	Acceleration    string
	Isolation       sandbox.Isolation
	TemplateDigest  string
	StartedAt       time.Time
	LastActiveAt    time.Time
	// LifetimeEnd is zero when no lifetime clock runs.
	LifetimeEnd time.Time
	Source      journal.Source
	// SnapshotID is the snapshot that Source fork came from.
	SnapshotID sandbox.SnapshotID
	// RestoreReport is that of the last start, nil until the sandbox has run.
	RestoreReport *sandbox.RestoreReport
	// DiskOnly is true for a paused sandbox that can only be resumed by a boot.
	DiskOnly bool
	// Health is zero unless State is Running, Pausing or Paused.
	Health sandbox.Health
	// Steps is how long each step of the last operation took.
	Steps map[string]time.Duration
	// DiskFull is true while the guest is stopped because the host's disk is full.
	DiskFull bool
	// diskPath is where its disk is, or will be.
	diskPath string
	// startID is the id of the process of the recorded start command of a build, or "".
	startID string
	// Busy: an operation on it is under way or waits for its turn.
	Busy bool
	// Stage is the part of its create that is under way, in the words of host.v1; empty
	// otherwise.
	Stage string
}

// publish makes state the one that callers see and tells subscribers. Only the
// machine's goroutine calls it.
func (m *machine) publish(state sandbox.State) {
	info := m.Driver().Info()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.view = Sandbox{
		Ref: m.rec.Ref(), Spec: m.rec.Spec, State: state, StopReason: m.rec.StopReason,
		GuestIP: m.rec.GuestIP, HostIP: m.rec.HostIP,
		Acceleration: string(info.Acceleration), Isolation: info.Isolation,
		TemplateDigest: m.rec.TemplateDigest, StartedAt: m.rec.StartedAt, LastActiveAt: m.rec.LastActive,
		Steps: maps.Clone(m.times), Source: m.rec.Source, SnapshotID: m.rec.SnapshotID, RestoreReport: m.rec.RestoreReport,
		DiskFull: m.diskFull && state == sandbox.Running, diskPath: m.Dir.Disk(),
		DiskOnly: m.rec.DiskOnly && state == sandbox.Paused, startID: startIDOf(m.rec.Start),
	}
	if state == sandbox.Running {
		m.view.LifetimeEnd = m.rec.LifetimeEnd
	}
	m.view.Health = m.healthLocked(state, m.rec.Forced)
	v := m.view
	v.Busy = m.busy()
	m.mgr.events.publish(v) // waits for nobody, and keeps the order of changes
}

// snapshotView returns the view for callers, with activity up to now.
func (m *machine) snapshotView() Sandbox {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.view
	v.Busy = m.busy()
	if v.State == sandbox.Pending {
		v.Stage = m.stage.text()
	}
	if v.State == sandbox.Running {
		v.LastActiveAt = m.lastActiveLocked()
	}
	return v
}

// busy reports whether a request waits for the machine or is being handled, or
// whether the sandbox is being created or recovered.
func (m *machine) busy() bool {
	select {
	case <-m.booted:
		return m.requests.Load() > 0
	default:
		return true
	}
}
