package vmm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Drivers are the drivers of one host, each for another runtime, the preferred one
// first. There is at least one. The list is constant.
type Drivers []Driver

// Validate refuses an empty list, and two drivers for one runtime or of one name.
func (d Drivers) Validate() error {
	if len(d) == 0 {
		return errors.New("the host has no driver")
	}
	names, runtimes := make(map[string]bool), make(map[sandbox.Runtime]bool)
	for _, one := range d {
		info := one.Info()
		if names[info.Driver] || runtimes[info.Runtime] {
			return fmt.Errorf("the driver %s for the runtime %s is there twice", info.Driver, info.Runtime)
		}
		names[info.Driver], runtimes[info.Runtime] = true, true
	}
	return nil
}

// Preferred is the driver for sandboxes that ask for no runtime.
func (d Drivers) Preferred() Driver { return d[0] }

// For returns the driver for a runtime; none is the preferred one. The error is of
// kind Unsupported, reason "runtime_unavailable".
func (d Drivers) For(runtime sandbox.Runtime) (Driver, error) {
	if runtime == "" {
		return d.Preferred(), nil
	}
	i := slices.IndexFunc(d, func(one Driver) bool { return one.Info().Runtime == runtime })
	if i < 0 {
		return nil, fault.New(fault.Unsupported, "runtime_unavailable",
			"this host offers %s and not the runtime %s", d.names(), runtime)
	}
	return d[i], nil
}

// Saved returns the driver that saved a snapshot with the fingerprint saved. The error
// is of kind Unsupported, reason "runtime_unavailable".
func (d Drivers) Saved(saved map[string]string) (Driver, error) {
	if one := d.named(saved["driver"]); one != nil {
		return one, nil
	}
	return nil, fault.New(fault.Unsupported, "runtime_unavailable",
		"it was saved by the driver %q, which this host has not; it has the runtime %s", saved["driver"], d.names())
}

// Has reports whether rec is of one of the drivers.
func (d Drivers) Has(rec Record) bool { return d.named(rec.Driver) != nil }

// named returns the driver called name, or nil.
func (d Drivers) named(name string) Driver {
	i := slices.IndexFunc(d, func(one Driver) bool { return one.Info().Driver == name })
	if i < 0 {
		return nil
	}
	return d[i]
}

// names lists the runtimes, for a message.
func (d Drivers) names() string {
	names := make([]string, len(d))
	for i, one := range d {
		names[i] = string(one.Info().Runtime)
	}
	return strings.Join(names, ", ")
}

// Find is that of every driver.
func (d Drivers) Find(root string) (found []Record, err error) {
	for _, one := range d {
		records, err := one.Find(root)
		if err != nil {
			return nil, err
		}
		found = append(found, records...)
	}
	return found, nil
}

// KillRecord is that of the driver of rec.
func (d Drivers) KillRecord(ctx context.Context, rec Record) error {
	one := d.named(rec.Driver)
	if one == nil {
		return fault.New(fault.Unsupported, "runtime_unavailable", "the host has no driver %q, which started process %d", rec.Driver, rec.PID)
	}
	return one.KillRecord(ctx, rec)
}
