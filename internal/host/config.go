package host

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/host/instance"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Config holds the operator's settings. Zero fields take the named default.
type Config struct {
	// Dir holds the journal, disks and snapshots. Its path may be at most 60
	// bytes long, because sockets lie below it.
	Dir string
	// HostID names this host; empty is the machine's host name.
	HostID string
	// Version is the agent's own, for GetHost.
	Version string
	// BootConcurrency is how many VMs boot at once; 0 is one per CPU.
	BootConcurrency int
	// BootTimeout is how long one boot may take before it is killed and tried
	// once more; 0 is 45 s.
	BootTimeout time.Duration
	// PauseGrace is how long a pause waits for open commands and transfers
	// before it cuts them; 0 is 500 ms.
	PauseGrace time.Duration
	// MemoryReserveMB is kept for the host itself; 0 is 1024.
	MemoryReserveMB int
	// DiskReserveBytes of free space are kept: new sandboxes are refused
	// below it, while pause may still use it; 0 is DefaultDiskReserveBytes.
	DiskReserveBytes uint64
	// MinIsolation refuses sandboxes on a host that isolates less.
	MinIsolation sandbox.Isolation
	// TemplateDir holds template snapshots; empty is a directory in Dir. Agents
	// of one host may share it; then none of them ever removes files from it.
	TemplateDir string
	// Prepare lists the kinds of sandbox whose template snapshots are made
	// when the agent starts, in the background.
	Prepare []sandbox.Spec
	// Pools lists the kinds of sandbox of which warm clones are kept.
	Pools []PoolKind
	// MemoryOvercommit is the memory that sandboxes may be promised, as a
	// multiple of the host's memory: VMs take memory as they write it, and those of
	// some drivers share pages until then. Nothing is started while less than half of
	// MemoryReserveMB is really available. 0 is 1.
	MemoryOvercommit float64
	// DiskOvercommit is the disk space that sandboxes may be promised, as a
	// multiple of the free space: their disks take space as they are written. A disk
	// in memory is promised the same part of its size in memory. 0 is
	// DefaultDiskOvercommit.
	DiskOvercommit float64
	// Nameservers are given to guests.
	Nameservers []string
	// UIDBase is the first of the 2^30 user ids from which each VM process gets
	// one by the number of its network slot. Slots of all agents in one network
	// namespace have different numbers, and so their VMs different users. 0 is
	// DefaultUIDBase. Negative runs VM processes as root.
	UIDBase int
	// GuestTimeout is how long a guest may take to answer before it counts as
	// unresponsive; 0 is 10 s.
	GuestTimeout time.Duration
	// ProbeInterval is how long an idle guest may be silent before it is asked
	// for a sign of life; 0 is 30 s. A sandbox that nobody uses is asked less often.
	ProbeInterval time.Duration
	// TemplateRest is how long a template's guest is left alone before it is
	// sealed, so that work its kernel and agent have put off is done once and not
	// by every clone before its first answer; 0 is 2 s.
	TemplateRest time.Duration
	// TemplateWait is how long a create waits for the template snapshot of its kind to be
	// made; 0 is 150 s, which is below the limit of a create. The build goes on without it.
	TemplateWait time.Duration
	// ImageAge is how long an imported image without sandboxes and snapshots stays
	// after its last use; 0 is a day.
	ImageAge time.Duration
	// OnStep, when set, is called before each step of an operation, after the
	// step has been journalled. The step fails with its error.
	OnStep func(step string) error
}

// Deps are the parts that the manager puts to work. All are required.
type Deps struct {
	// Drivers has a driver for each runtime that the host offers.
	Drivers vmm.Drivers
	// Finders find the VM processes of every driver that an earlier agent may have
	// had. Those of Drivers need not be among them.
	Finders []vmm.Finder
	Network instance.Network // see instance.NetworkOf
	Images  Images
	Cgroups instance.Cgroups // see instance.CgroupsOf
	// GuestVersion is the version of the guest agent that the drivers boot.
	GuestVersion string
	Log          *slog.Logger
}

// Images finds the root images of templates. *image.Store implements it.
type Images interface {
	// Template returns the current image of a template. It is fault.NotFound if
	// there is none.
	Template(name string) (image.Template, error)
	// Version returns the image with a digest, of any template. It is fault.NotFound if
	// there is none.
	Version(digest string) (image.Template, error)
	// Templates returns the current image of each template. It leaves out those that
	// cannot be read, or are removed meanwhile.
	Templates() ([]image.Template, error)
	// Import makes a template of a container image.
	Import(ctx context.Context, src image.Source, progress image.Progress) (image.Template, error)
	// Use records a use of an imported image, and does nothing for other templates. It is
	// fault.NotFound if the image has been removed.
	Use(t image.Template) error
	// Unused returns the imported images without a use for age, and Remove removes
	// one unless it was used since.
	Unused(age time.Duration) ([]image.Template, error)
	Remove(ctx context.Context, t image.Template, age time.Duration) (bool, error)
}

const maxDirLength = 60

// DefaultUIDBase is above every range that useradd gives to subordinate users
// (at most 600,100,000, login.defs(5)), and 2^30 ids above it are still positive
// as a signed number.
const DefaultUIDBase = 1 << 30

// DefaultDiskReserveBytes is enough to pause a few sandboxes.
const DefaultDiskReserveBytes = 2 << 30

// defaultMemoryReserveMB is the value of a MemoryReserveMB of 0.
const defaultMemoryReserveMB = 1024

// MemoryFloorMB returns the available memory, in MiB, below which the host creates no
// sandbox and drivers with disks in memory stop them, for a Config.MemoryReserveMB.
func MemoryFloorMB(reserveMB int) int {
	return cmp.Or(reserveMB, defaultMemoryReserveMB) / 2
}

// DefaultDiskOvercommit reckons with guests that write a quarter of their disk.
const DefaultDiskOvercommit = 4

func (c Config) withDefaults() Config {
	setDefault(&c.BootTimeout, 45*time.Second)
	setDefault(&c.PauseGrace, 500*time.Millisecond)
	setDefault(&c.GuestTimeout, 10*time.Second)
	setDefault(&c.ProbeInterval, 30*time.Second)
	setDefault(&c.TemplateRest, 2*time.Second)
	setDefault(&c.TemplateWait, 150*time.Second)
	setDefault(&c.ImageAge, 24*time.Hour)
	setDefault(&c.MemoryReserveMB, defaultMemoryReserveMB)
	setDefault(&c.DiskReserveBytes, DefaultDiskReserveBytes)
	setDefault(&c.UIDBase, DefaultUIDBase)
	setDefault(&c.MemoryOvercommit, 1)
	setDefault(&c.DiskOvercommit, DefaultDiskOvercommit)
	setDefault(&c.BootConcurrency, hostCPUs())
	setDefault(&c.TemplateDir, layout{root: c.Dir}.templates())
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c Config) validate(d Deps) error {
	switch {
	case c.Dir == "" || len(c.Dir) > maxDirLength:
		return fault.New(fault.Invalid, "invalid_data_dir", "the data directory's path must have from 1 to %d bytes", maxDirLength)
	case len(d.Drivers) == 0 || d.Network == nil || d.Images == nil || d.Cgroups == nil || d.Log == nil:
		return fault.New(fault.Internal, "internal", "host.Open misses a dependency")
	case !d.Drivers.Preferred().Info().Isolation.Meets(c.MinIsolation):
		return fault.New(fault.Unsupported, "isolation_too_weak",
			"this host isolates sandboxes by %s (%s), but at least %s is required",
			d.Drivers.Preferred().Info().Isolation, d.Drivers.Preferred().Info().Reason, c.MinIsolation)
	}
	return c.validateRuntimes(d.Drivers)
}

// validateRuntimes refuses warm clones of a runtime that the host does not offer.
func (c Config) validateRuntimes(drivers vmm.Drivers) error {
	for _, k := range c.Pools {
		if _, err := drivers.For(k.Spec.Runtime); err != nil {
			return err
		}
	}
	return drivers.Validate()
}
