package control

import (
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Config holds the operator's settings of the control plane. DefaultConfig
// has a value for everything; New refuses one that Validate does.
type Config struct {
	// VCPUsPerCPU and MemoryFactor are how often a host's CPUs and memory are
	// given out. A paused sandbox holds neither.
	VCPUsPerCPU  float64
	MemoryFactor float64
	// MinIsolation is the weakest isolation that any sandbox may have here.
	// Empty is any.
	MinIsolation sandbox.Isolation
	// RequireMultiTenant leaves out hosts whose VMM is fit for one tenant only.
	RequireMultiTenant bool

	// CreateTimeout, PauseTimeout, ResumeTimeout and DestroyTimeout bound a
	// host's work. Emulated hosts boot in tens of seconds, and a pause writes
	// all memory to disk.
	CreateTimeout, PauseTimeout, ResumeTimeout, DestroyTimeout time.Duration
	// ForkTimeout bounds a whole fork: its snapshot and the start of every child.
	ForkTimeout time.Duration
	// AskTimeout bounds a question to a host (its state, its sandboxes).
	AskTimeout time.Duration

	// ReconcileInterval is the time between two passes over a host.
	ReconcileInterval time.Duration
	// Grace is how long row and host may disagree before the reconciler acts,
	// where the disagreement may be an operation under way.
	Grace time.Duration
	// Retention is how long ended sandboxes stay readable.
	Retention time.Duration
	// ActivityInterval is the time between two writes of last_active_at.
	ActivityInterval time.Duration

	// MaxSnapshots is how many named snapshots there may be, MaxSnapshotBytes
	// how much of the hosts' disks they may take before no more are made; zero
	// bytes is no bound.
	MaxSnapshots     int
	MaxSnapshotBytes uint64
}

// DefaultConfig returns the defaults, which are those of the documentation.
func DefaultConfig() Config {
	return Config{
		VCPUsPerCPU:       16,
		MemoryFactor:      1,
		CreateTimeout:     3 * time.Minute,
		PauseTimeout:      5 * time.Minute,
		ResumeTimeout:     3 * time.Minute,
		DestroyTimeout:    time.Minute,
		ForkTimeout:       10 * time.Minute,
		AskTimeout:        10 * time.Second,
		ReconcileInterval: 30 * time.Second,
		Grace:             time.Minute,
		Retention:         24 * time.Hour,
		ActivityInterval:  10 * time.Second,
		MaxSnapshots:      1000,
	}
}

// Validate returns an Invalid fault that names the first setting out of range.
func (c Config) Validate() error {
	for _, f := range []struct {
		name string
		ok   bool
	}{
		{"vcpus per cpu", c.VCPUsPerCPU > 0},
		{"memory factor", c.MemoryFactor > 0},
		{"minimum isolation", c.MinIsolation == "" || sandbox.IsolationHardware.Meets(c.MinIsolation)},
		{"create timeout", c.CreateTimeout > 0},
		{"pause timeout", c.PauseTimeout > 0},
		{"resume timeout", c.ResumeTimeout > 0},
		{"destroy timeout", c.DestroyTimeout > 0},
		{"fork timeout", c.ForkTimeout > 0},
		{"ask timeout", c.AskTimeout > 0},
		{"reconcile interval", c.ReconcileInterval > 0},
		{"grace", c.Grace >= 0},
		{"retention", c.Retention >= 0},
		{"activity interval", c.ActivityInterval > 0},
		{"number of snapshots", c.MaxSnapshots >= 0},
	} {
		if !f.ok {
			return fault.New(fault.Invalid, "invalid_config", "control plane: the %s is out of range", f.name)
		}
	}
	return nil
}

// capacityOf returns the capacity that may be allocated on h.
func (c Config) capacityOf(h HostInfo) Capacity {
	return Capacity{
		VCPUs:    int(float64(h.VCPUs) * c.VCPUsPerCPU),
		MemoryMB: int(float64(h.MemoryMB) * c.MemoryFactor),
	}
}
