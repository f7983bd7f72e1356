package instance

import (
	"context"
	"net"
	"net/netip"
	"os"

	"github.com/wrenn-dev/wrenn/internal/host/cgroup"
	"github.com/wrenn-dev/wrenn/internal/host/network"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// Network makes the networks of VMs. *network.Pool implements it, see
// [NetworkOf]; tests use a fake. Methods may be called concurrently.
type Network interface {
	// Acquire makes the network called name, ready for the first Attach of that
	// attachment. On error nothing of it is left.
	Acquire(ctx context.Context, name string, how vmm.Attachment) (Slot, error)
	// Adopt returns the network that an earlier agent made and recorded.
	Adopt(name string, rec network.Record) (Slot, error)
	// Discard frees a recorded network that was not adopted. It may be called twice.
	Discard(ctx context.Context, name string, rec network.Record)
	// Sweep removes the networks that are neither acquired nor adopted and whose
	// namespace keep refuses. It returns the names of their namespaces.
	Sweep(ctx context.Context, keep func(netns string) bool) ([]string, error)
}

// Slot is the network of one VM, from Acquire or Adopt to Release.
type Slot interface {
	// Record returns the data that Adopt needs; it goes into the journal.
	Record() network.Record
	// GuestAddr is the guest's own address, HostAddr the one at which the host
	// reaches it.
	GuestAddr() netip.Addr
	HostAddr() netip.Addr
	// Number tells the slots of one host apart, from 0 to 2^30-1.
	Number() uint32
	// Attach returns the network for one start of a VM of a driver with that
	// attachment. The VM of an earlier start must have ended.
	Attach(vmm.Attachment) (vmm.Network, error)
	// Limit denies the guest connections to the ranges deny, except for those in
	// allow. It is called at most once, before user code runs.
	Limit(deny, allow []netip.Prefix) error
	// Relimit replaces the limits at any time, at once for all connections. Without a
	// range to deny it removes them. On error the old limits hold.
	Relimit(deny, allow []netip.Prefix) error
	// Dial connects to a TCP port of the guest.
	Dial(ctx context.Context, port uint16) (net.Conn, error)
	// Release frees the network. It may be called twice.
	Release(ctx context.Context)
}

// Cgroups makes the control groups of VM processes. *cgroup.Manager implements
// it, see [CgroupsOf]; tests use a fake. Methods may be called concurrently.
type Cgroups interface {
	// Create makes the group of id. It is fault.Exists if there is one.
	Create(id string, limits cgroup.Limits) (Cgroup, error)
	// Reuse kills the processes of an existing group and sets new limits.
	Reuse(ctx context.Context, id string, limits cgroup.Limits) (Cgroup, error)
	// Adopt returns an existing group. It is fault.NotFound if there is none.
	Adopt(id string) (Cgroup, error)
	// Sweep removes the groups that keep refuses, with their processes, and
	// returns their ids.
	Sweep(ctx context.Context, keep func(id string) bool) ([]string, error)
}

// Cgroup is the control group of one VM process.
type Cgroup interface {
	// Dir is the open directory of a cgroup v2 to start a process in, or nil
	// where Add has to move it there afterwards.
	Dir() *os.File
	// Add moves a process into the group.
	Add(pid int) error
	// Background lowers the group's CPU and I/O weight, or restores it.
	Background(on bool) error
	// OOMKilled reports whether the kernel killed a process of the group for
	// want of memory.
	OOMKilled() bool
	// Kill ends every process of the group and returns when they are gone.
	Kill(ctx context.Context) error
	// Remove removes the empty group.
	Remove() error
}
