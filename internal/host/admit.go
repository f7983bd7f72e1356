package host

import (
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Admission is decided before any work begins, so that a burst cannot overshoot
// and a refusal costs nothing.

// admitLocked admits a new sandbox, for whose disk use was measured. mu must be
// held.
func (m *Manager) admitLocked(spec sandbox.Spec, use diskUse) error {
	switch have := m.driver.Info(); {
	case m.closed:
		return fault.New(fault.HostFailed, "host_stopping", "the host agent is stopping")
	case m.draining:
		return fault.New(fault.NoCapacity, "host_draining", "the host takes no new sandboxes: it is being drained")
	case !have.Isolation.Meets(spec.MinIsolation):
		return fault.New(fault.Unsupported, "isolation_too_weak",
			"this host isolates sandboxes by %s, and %s is required", have.Isolation, spec.MinIsolation)
	case spec.Runtime != "" && spec.Runtime != have.Runtime:
		return fault.New(fault.Unsupported, "runtime_unavailable",
			"this host offers the runtime %s, and %s is required", have.Runtime, spec.Runtime)
	}
	if err := spec.Validate(); err != nil {
		return err
	}
	if err := spec.ValidateFor(m.limits()); err != nil {
		return err
	}
	if err := m.roomLocked(spec, 0); err != nil {
		return err
	}
	if err := use.checkReserve(m.cfg.DiskReserveBytes); err != nil {
		return err
	}
	return m.admitDiskLocked(spec, use)
}

// admitResume admits a paused sandbox that is to run again. The sandbox needs
// disk space for its journal and for its next writes.
func (m *Manager) admitResume(spec sandbox.Spec) error {
	if err := disk.CheckReserve(m.cfg.Dir, pauseReserve); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.draining {
		return fault.New(fault.NoCapacity, "host_draining", "the host resumes no sandboxes: it is being drained")
	}
	return m.roomLocked(spec, 0)
}

// heldMemoryLocked is the memory, in MiB, that is promised to the sandboxes that
// hold memory now. mu must be held.
func (m *Manager) heldMemoryLocked() (held int) {
	for _, mc := range m.machines {
		if v := mc.snapshotView(); v.State.Holds() {
			held += m.promisedMemoryMB(v.Spec)
		}
	}
	return held
}

// promisedMemoryMB is the memory, in MiB, that a sandbox of spec is promised.
func (m *Manager) promisedMemoryMB(spec sandbox.Spec) int {
	return m.shape().HostMemoryMB(spec.MemoryMB, spec.DiskMB)
}

// roomLocked refuses a VM of spec if its memory does not fit beside others MiB and
// the sandboxes that hold memory now. mu must be held.
func (m *Manager) roomLocked(spec sandbox.Spec, others int) error {
	held := m.heldMemoryLocked()
	if total := m.memoryMB(); held+others+m.promisedMemoryMB(spec) > total {
		return fault.New(fault.NoCapacity, "no_memory", "the host has %d MB for sandboxes and %d MB are taken", total, held)
	}
	if left := availableMemoryMB(); left < m.cfg.MemoryReserveMB/2 {
		return fault.New(fault.NoCapacity, "no_memory", "the host has only %d MB of memory left", left)
	}
	return nil
}
