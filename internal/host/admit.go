package host

import (
	"cmp"
	"math"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Admission is decided before any work begins, so that a burst cannot overshoot
// and a refusal costs nothing.

// admitLocked admits a new sandbox, for whose disk use was measured. mu must be
// held.
func (m *Manager) admitLocked(spec sandbox.Spec, use diskUse) error {
	driver, err := m.drivers.For(spec.Runtime)
	if err != nil {
		return err
	}
	have := driver.Info()
	switch {
	case m.closed:
		return fault.New(fault.HostFailed, "host_stopping", "the host agent is stopping")
	case m.draining:
		return fault.New(fault.NoCapacity, "host_draining", "the host takes no new sandboxes: it is being drained")
	case !have.Isolation.Meets(spec.MinIsolation) || !have.Isolation.Meets(m.cfg.MinIsolation):
		return fault.New(fault.Unsupported, "isolation_too_weak",
			"this host isolates sandboxes of the runtime %s by %s, and %s is required", have.Runtime, have.Isolation,
			cmp.Or(spec.MinIsolation, m.cfg.MinIsolation))
	}
	if err := spec.Validate(); err != nil {
		return err
	}
	if err := spec.ValidateFor(m.limitsUnder(have)); err != nil {
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

// promisedMemoryMB is the memory, in MiB, that a sandbox of spec is promised. A disk
// in memory is promised the part of its size that is expected to be written, as disks
// in files are; the driver stops guests that write more than the host has.
func (m *Manager) promisedMemoryMB(spec sandbox.Spec) int {
	if !m.shapeOf(spec).DiskInMemory {
		return spec.MemoryMB
	}
	return spec.MemoryMB + int(math.Ceil(float64(spec.DiskMB)/m.cfg.DiskOvercommit))
}

// roomLocked refuses a VM of spec if its memory does not fit beside others MiB and
// the sandboxes that hold memory now. mu must be held.
func (m *Manager) roomLocked(spec sandbox.Spec, others int) error {
	held := m.heldMemoryLocked()
	if total := m.memoryMB(); held+others+m.promisedMemoryMB(spec) > total {
		return fault.New(fault.NoCapacity, "no_memory", "the host has %d MB for sandboxes and %d MB are taken", total, held)
	}
	if left := availableMemoryMB(); left < MemoryFloorMB(m.cfg.MemoryReserveMB) {
		return fault.New(fault.NoCapacity, "no_memory", "the host has only %d MB of memory left", left)
	}
	return nil
}
