package instance

import (
	"context"
	"errors"
	"os"
	"sync"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/host/cgroup"
	"github.com/wrenn-dev/wrenn/internal/host/network"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// Parts are the parts of a host that instances are made of. They are constant.
type Parts struct {
	Driver  vmm.Driver
	Network Network
	Cgroups Cgroups
	// UIDBase, if above 0, gives each VM process a user and group id of its own:
	// UIDBase plus the number of its network slot.
	UIDBase int
}

// Size is the size of a VM; memory and disk are in MiB.
type Size struct{ VCPUs, MemoryMB, DiskMB int }

// Instance is one VM with the resources that it runs on: a directory, a network
// slot and a control group. It has no identity of a sandbox, so that it can be
// created, torn down and handed over as a whole.
//
// Invariant: every part that exists is in its field, or was recorded by the
// caller and is freed by that record. One goroutine at a time may call the
// methods and use the fields, but SetGuest, Guest and DropGuest may be called
// concurrently.
type Instance struct {
	// Name names the instance's directory, control group and network.
	Name string
	Dir  Dir
	Size Size
	// VM, Slot and Group are nil while that part does not exist.
	VM    vmm.VM
	Slot  Slot
	Group Cgroup

	parts Parts

	mu    sync.Mutex // protects the following
	guest *guestclient.Client
}

// New returns an instance of which nothing exists yet.
func New(parts Parts, name string, dir Dir, size Size) *Instance {
	return &Instance{Name: name, Dir: dir, Size: size, parts: parts}
}

// CreateNetwork acquires the network slot and returns its record.
func (i *Instance) CreateNetwork(ctx context.Context) (network.Record, error) {
	slot, err := i.parts.Network.Acquire(ctx, i.Name, i.parts.Driver.Info().Shape.Attachment)
	if err != nil {
		return network.Record{}, err
	}
	i.Slot = slot
	return slot.Record(), nil
}

// CreateCgroup creates the control group, or takes the one that could not be
// removed when the instance's VM ended.
func (i *Instance) CreateCgroup(ctx context.Context) error {
	shape := i.parts.Driver.Info().Shape
	limits := cgroup.Limits{
		MemoryBytes: int64(shape.HostMemoryMB(i.Size.MemoryMB, i.Size.DiskMB)+shape.OverheadMB+shape.GraceMB) << 20,
		CPUs:        float64(i.Size.VCPUs) + shape.OverheadCPUs,
		PIDs:        shape.HostTasks(i.Size.MemoryMB, i.Size.VCPUs),
	}
	group, err := i.parts.Cgroups.Create(i.Name, limits)
	if fault.Is(err, fault.Exists) {
		group, err = i.parts.Cgroups.Reuse(ctx, i.Name, limits)
	}
	i.Group = group
	return err
}

// Driver is the driver of the VM.
func (i *Instance) Driver() vmm.Driver { return i.parts.Driver }

// VMConfig returns the configuration of a VM that uses the instance's network
// slot, control group and disk. The caller adds the root image and the host name.
func (i *Instance) VMConfig() (vmm.Config, error) {
	shape := i.parts.Driver.Info().Shape
	attached, err := i.Slot.Attach(shape.Attachment)
	if err != nil {
		return vmm.Config{}, err
	}
	cfg := vmm.Config{
		ID: i.Name, Dir: i.Dir.VM(), VCPUs: i.Size.VCPUs, MemoryMB: i.Size.MemoryMB, DiskMB: i.Size.DiskMB,
		Network: attached, Cgroup: i.Group.Dir(),
	}
	if !shape.DiskInSnapshot {
		cfg.Disk = i.Dir.Disk()
	}
	if i.parts.UIDBase > 0 {
		cfg.UID = i.parts.UIDBase + int(i.Slot.Number())
		cfg.GID = cfg.UID
	}
	return cfg, nil
}

// Adopt connects to the parts that an earlier agent created and recorded.
func (i *Instance) Adopt(ctx context.Context, vm vmm.Record, slot network.Record) (err error) {
	if i.VM, err = i.parts.Driver.Adopt(ctx, vm); err != nil {
		return err
	}
	if i.Slot, err = i.parts.Network.Adopt(i.Name, slot); err != nil {
		return err
	}
	i.Group, err = i.parts.Cgroups.Adopt(i.Name)
	return err
}

// EndVM breaks the connections to the guest, kills the VM process, and waits
// until it is reaped. rec is the record of a process that was not adopted, or
// nil.
func (i *Instance) EndVM(ctx context.Context, rec *vmm.Record) error {
	i.DropGuest()
	if i.VM != nil {
		if err := i.VM.Kill(ctx); err != nil {
			return err
		}
	} else if rec != nil {
		if err := i.parts.Driver.KillRecord(ctx, *rec); err != nil {
			return err
		}
	}
	i.VM = nil
	return nil
}

// EndNetwork frees the network slot. rec is the record of one that was not
// adopted, or nil.
func (i *Instance) EndNetwork(ctx context.Context, rec *network.Record) {
	switch {
	case i.Slot != nil:
		i.Slot.Release(ctx)
	case rec != nil:
		i.parts.Network.Discard(ctx, i.Name, *rec)
	}
	i.Slot = nil
}

// EndCgroup kills the processes of the control group and removes it. A group
// that is empty but cannot be removed is returned as left: a sweep removes it
// later, or CreateCgroup uses it again.
func (i *Instance) EndCgroup(ctx context.Context) (left, err error) {
	group := i.Group
	if group == nil {
		group, err = i.parts.Cgroups.Adopt(i.Name)
		if fault.Is(err, fault.NotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		i.Group = group
	}
	if err := group.Kill(ctx); err != nil {
		return nil, err
	}
	i.Group = nil
	return group.Remove(), nil
}

// Exists reports whether any part of the instance is known to exist.
func (i *Instance) Exists() bool { return i.VM != nil || i.Slot != nil || i.Group != nil }

// RemoveFiles removes everything in the directory but the files that keep
// reports true for.
func (i *Instance) RemoveFiles(keep func(name string) bool) error {
	entries, err := os.ReadDir(string(i.Dir))
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if !keep(e.Name()) {
			errs = append(errs, os.RemoveAll(string(i.Dir)+"/"+e.Name()))
		}
	}
	return errors.Join(errs...)
}
