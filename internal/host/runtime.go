package host

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/linux/proc"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// A host offers the runtimes of its drivers. The spec of each sandbox, warm clone and
// template that exists names its runtime, and the body keeps to the driver of that
// runtime for its life.

// resolved returns spec with the preferred runtime if it names none.
func (m *Manager) resolved(spec sandbox.Spec) sandbox.Spec {
	spec.Runtime = cmp.Or(spec.Runtime, m.drivers.Preferred().Info().Runtime)
	return spec
}

// driverOf returns the driver for a spec that names its runtime. An earlier agent may
// have offered a runtime that this one does not.
func (m *Manager) driverOf(spec sandbox.Spec) vmm.Driver {
	d, err := m.drivers.For(spec.Runtime)
	if err != nil {
		return vmm.Absent(spec.Runtime)
	}
	return d
}

// shapeOf returns the properties of a VM of spec.
func (m *Manager) shapeOf(spec sandbox.Spec) vmm.Shape { return m.driverOf(spec).Info().Shape }

// endAbsent ends VMs of drivers that this agent has not, unless a record says that they
// are sandboxes: a start of them was cut off, or they were warm clones or template
// builds. It must be called before the machines are read.
func (m *Manager) endAbsent(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, teardownTimeout)
	defer cancel()
	var errs []error
	for _, finder := range m.deps.Finders {
		found, err := finder.Find(m.layout.root)
		errs = append(errs, err)
		for _, rec := range found {
			if m.drivers.Has(rec) || m.recorded(rec) {
				continue
			}
			m.log.WarnContext(ctx, "ending a VM that no sandbox has, of a runtime that this host does not offer", "driver", rec.Driver, "pid", rec.PID, "dir", rec.Dir)
			errs = append(errs, finder.KillRecord(ctx, rec))
		}
	}
	return errors.Join(errs...)
}

// recorded reports whether the process of rec may be the VM of a sandbox. It is true if
// the record of the sandbox cannot be read.
func (m *Manager) recorded(rec vmm.Record) bool {
	saved, err := journal.Read(filepath.Dir(m.layout.today(rec.Dir)))
	if errors.Is(err, os.ErrNotExist) {
		return false
	}
	return err != nil || saved.VM != nil && !saved.Pooled
}

// needsDrivers refuses to start an agent beside VMs of a driver that it has not:
// it could neither use nor end them. Paused sandboxes can wait for the driver.
func (m *Manager) needsDrivers(machines []*machine) error {
	var errs []error
	for _, mc := range machines {
		rec := mc.rec.VM
		if rec == nil || m.drivers.Has(*rec) || !runs(rec) {
			continue
		}
		errs = append(errs, fault.New(fault.Unsupported, "runtime_unavailable",
			"the sandbox %s runs under the runtime %s, which this host agent does not have: install it again and start the agent, or end the process %d",
			mc.rec.ID, mc.rec.Spec.Runtime, rec.PID))
	}
	return errors.Join(errs...)
}

// runs reports whether the process of rec lives.
func runs(rec *vmm.Record) bool {
	stat, err := proc.ReadStat(rec.PID)
	return err == nil && sameBoot(rec) && stat.StartTicks == rec.StartTicks && stat.State != 'Z'
}
