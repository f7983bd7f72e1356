// Package vmm defines the contract between the host agent and a hypervisor's driver.
//
// A Driver starts VM processes; a VM is one of them. The life of a VM:
//
//	Start ──► running ◄──► paused ──► SaveDelta, or BeginSave and Finish (stays paused)
//	Restore ─────────────► paused, or running with Shape.RestoresRunning
//	Adopt ──► running or paused, as it was left
//	Kill, or an end of its own ──► exited, for good
//
// The host manager is the only caller. It makes the network slot, the control group,
// the directories and, unless the driver saves the disk with the VM, the disk file
// before it calls a driver. A driver starts a process and talks to it. A VM process
// outlives the agent: only Kill ends it. The package never touches images, disks or
// networks itself.
//
// # Shapes
//
// Drivers differ in more than their process, and the host knows no driver by name.
// A driver states its differences as facts, in Info.Shape. The host acts on each
// fact at one place:
//
//	RestoresRunning   a resume restores in its step resume.cont, not in resume.vmm
//	DiskInSnapshot    the host has no disk file to make, copy, seal or check, and a
//	                  paused sandbox never changes while a VM of it runs
//	DeltaIsWhole      a damaged base does not keep a sandbox from resuming
//	DiskInMemory      admission and the control group count the disk as memory
//	SharesMemory      memory may be promised more than once; warm clones cost little
//	Attachment        the kind of network that Config.Network describes
//
// # Who freezes user processes
//
// A driver never does. The guest's agent freezes them before the host saves a VM,
// and keeps them frozen after a restore until the host has configured the guest.
// That is why a restored VM may run at once. Only a VM that was saved without the
// help of its guest (a forced pause or snapshot) runs user code before it is
// configured.
package vmm

import (
	"context"
	"os"
	"time"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Acceleration is how guest instructions run.
type Acceleration string

// The accelerations.
const (
	KVM Acceleration = "kvm"
	TCG Acceleration = "tcg"
)

// Info describes a driver on this host. It does not change while the agent runs.
type Info struct {
	Driver string // "qemu"
	// Runtime is the kind of its VMs, which sandboxes ask for.
	Runtime      sandbox.Runtime
	Version      string // of the VMM
	Acceleration Acceleration
	// Reason is a sentence that says why that acceleration.
	Reason string
	// Isolation is the boundary between a guest and the host.
	Isolation sandbox.Isolation
	// MultiTenant is true where VMs of tenants who distrust each other may run
	// side by side: behind a hardware boundary or a userspace kernel, with a
	// VMM that cannot change files that VMs share.
	MultiTenant bool
	// MaxVCPUs is the most virtual CPUs that one VM may have.
	MaxVCPUs int
	// GuestKernel is the release of the guests' kernel.
	GuestKernel string
	// Shape holds the properties of the driver's VMs that the host works by.
	Shape Shape
}

// BootKernel is the name of the guest kernel's digest in Driver.BootInputs, where
// the driver boots one.
const BootKernel = "kernel"

// Build is one build of a VMM. Device state can only be loaded by the build
// that saved it, so that a driver keeps builds until they are removed.
type Build struct {
	ID      string
	Version string
	Bytes   int64
	// Current: new VMs are started under it.
	Current bool
	// Dir is the directory of its files.
	Dir string
	// WritesMemory is true where the build can only open the shared files of a
	// snapshot for writing too, although it never writes them.
	WritesMemory bool
}

// Driver starts VMs of one kind.
type Driver interface {
	Info() Info
	// Fingerprint returns the facts of this host, by name, that a guest under
	// cfg can see and depends on; cfg.Build chooses the build. CheckFingerprint
	// compares two.
	Fingerprint(Config) map[string]string
	// BootInputs returns the digests, by name, of the files that Start boots beside
	// the root image. A template snapshot depends on them; a restored VM does not.
	BootInputs() map[string]string
	// BuildOf returns the ID of the kept build that a snapshot with the
	// fingerprint saved has to be restored under. The error is of kind
	// WrongState, reason "vmm_build_missing", and names the missing build.
	BuildOf(saved map[string]string) (string, error)
	// Builds returns the kept builds, the newest first.
	Builds() ([]Build, error)
	// RemoveBuild removes a kept build that nothing needs any more. VMs that
	// run under it continue. It refuses the current one.
	RemoveBuild(ctx context.Context, id string) error
	// Start boots cfg cold and returns when the VMM answers; the guest is
	// still booting, from the content that cfg.Disk or cfg.DiskContent has. On error nothing is left, but perhaps files in cfg.Scratch.
	Start(ctx context.Context, cfg Config) (VM, error)
	// Restore starts cfg from a saved VM and returns it paused, or running with
	// Shape.RestoresRunning. The VM may use the files of from.Base as long as it
	// lives, and never changes them; it is done with those of from.Delta. On error,
	// which wraps ErrDamaged if the content of from has changed since it was saved,
	// nothing is left.
	Restore(ctx context.Context, cfg Config, from Image) (VM, error)
	// Files returns the files of a snapshot of that form.
	Files(Form) []File
	// CheckDelta looks, without a VM, whether the delta in dir can be one of
	// cfg, of which only the sizes and the root image are set. The error wraps
	// ErrDamaged if not.
	CheckDelta(cfg Config, dir string) error
	// Flatten writes the whole snapshot that equals from to the directory dir.
	Flatten(ctx context.Context, from Image, dir string) error
	// Adopt connects to the process of rec, started by an earlier agent. One
	// that runs but does not answer is adopted all the same, and its calls fail
	// until it does. It fails if that process is not there any more or is another one; then the
	// caller still has to Kill by record.
	Adopt(ctx context.Context, rec Record) (VM, error)
	Finder
}

// Finder finds and ends the VM processes of one kind of driver. A driver's zero value is
// one, also on a host that cannot start such VMs any more.
type Finder interface {
	// KillRecord ends the process of rec if it still runs, whether or not it
	// can be adopted, and returns when it is gone. It leaves any other process
	// alone.
	KillRecord(ctx context.Context, rec Record) error
	// Find returns the VM processes on this machine, of any agent, whose
	// directory lies under root. It also finds a process whose agent died before
	// it could write the record.
	Find(root string) ([]Record, error)
}

// VM is one VM process. Methods may be called from several goroutines; the
// machine goroutine that owns the VM is the only one to change its state.
type VM interface {
	// Ping returns nil if the VMM process answers. It changes nothing and says
	// nothing about the guest.
	Ping(ctx context.Context) error
	// Pause stops the virtual CPUs. Pausing a paused VM does nothing.
	Pause(ctx context.Context) error
	// Resume starts them. Resuming a running VM does nothing.
	Resume(ctx context.Context) error
	// SaveDelta saves the paused VM to the empty directory dir, as a delta over
	// the whole snapshot that it was restored from. The VM stays paused and can
	// be resumed. The files are not yet durable.
	SaveDelta(ctx context.Context, dir string) (SaveStats, error)
	// BeginSave begins to save the VM, running or paused, whole to the empty
	// directory dir. It does the work that does not depend on the VM's content.
	BeginSave(ctx context.Context, dir string) (Save, error)
	// Kill ends the process and returns after it has been reaped. It is
	// idempotent, and nil for a VM that has already exited.
	Kill(ctx context.Context) error
	// Detach ends this agent's control of the VM, which continues unchanged until
	// another agent adopts it. No other method may be called afterwards, and Exited may
	// never be closed.
	Detach()
	// Stalled receives when the VMM may have stopped the virtual CPUs by itself,
	// because a write of the guest found the host's disk full. It is a hint that
	// OutOfSpace confirms: it may come late, once for several stops, and also
	// after a new connection to the VMM, because a stop may have been missed
	// while there was none. Resume tries the failed write again.
	Stalled() <-chan struct{}
	// OutOfSpace reports whether the virtual CPUs are stopped because a write
	// of the guest found the host's disk full.
	OutOfSpace(ctx context.Context) (bool, error)
	// Exited is closed when the process has ended for any reason.
	Exited() <-chan struct{}
	// Exit tells why. It is only valid once Exited is closed.
	Exit() Exit
	// Record returns the record that Adopt takes. It is fixed from Start on.
	Record() Record
	// Console returns the last bytes (at most 64 KiB) of the guest's serial
	// console, for diagnosis. The guest wrote them: they prove nothing.
	Console(ctx context.Context) ([]byte, error)
}

// Config is one VM, complete. The same Config with the same devices in the
// same order must be given to Restore as was given to Start.
type Config struct {
	// ID names the VM in process lists.
	ID string
	// Dir is a directory of the VM alone, for the driver's sockets; the process
	// cannot reach it. Its path may be at most 80 bytes long.
	Dir string
	// UID and GID are the process's user and group ids. The process must be
	// able to open the shared files of a snapshot: as their owner, by their group,
	// which it joins unless that is root's, or as anybody. It gets the other files
	// open.
	UID, GID int
	// Build is the ID of the build to run; empty is the current one. Restore
	// needs the one that BuildOf names.
	Build    string
	VCPUs    int
	MemoryMB int
	// Hostname is the guest's host name. A driver that cannot set it leaves that to
	// the guest's agent.
	Hostname string
	// RootImage is the read-only root shared by many VMs (the guest's first disk).
	RootImage string
	// RootDigest identifies the content of RootImage, wherever that lies. A driver that
	// saves the root image's identity refuses another one.
	RootDigest string
	// Disk is the file of the writable disk (the second). It is empty for a driver
	// with Shape.DiskInSnapshot, which makes a disk itself.
	Disk string
	// DiskMB is the size of the writable disk, in MiB.
	DiskMB int
	// Scratch is the directory in which Start may keep files that the VM needs
	// while it lives. It is also the base of the deltas of that VM. The caller removes
	// the files with the directory.
	Scratch string
	// DiskContent is the path of a file of DiskSaver, whose content Start puts on the
	// writable disk; empty is an empty disk. It must stay empty for a driver without
	// Shape.DiskInSnapshot.
	DiskContent string
	// Network is the VM's network, for the driver's attachment.
	Network Network
	// Cgroup, when not nil, is the open directory of a cgroup v2 in which the
	// process is started, as it is in the v1 groups of the same path.
	Cgroup *os.File
}

// Record identifies a VM process, so that an agent finds it again after a restart.
// It is written to the journal as JSON.
type Record struct {
	Driver string `json:"driver"`
	ID     string `json:"id"`
	Dir    string `json:"dir"`
	PID    int    `json:"pid"`
	// StartTicks is field 22 of /proc/PID/stat (proc(5)); with BootID it makes
	// a PID an identity.
	StartTicks uint64 `json:"start_ticks"`
	BootID     string `json:"boot_id"`
	// MemoryFile is for drivers that map a file as guest memory: its path.
	MemoryFile string `json:"memory_file"`
}

// Cause is the cause of a VM's end.
type Cause string

// The causes.
const (
	CauseKilled        Cause = "killed"         // Kill was called
	CauseGuestShutdown Cause = "guest_shutdown" // the guest powered off
	CauseGuestReset    Cause = "guest_reset"    // reboot, or panic with panic=-1
	CauseMemory        Cause = "memory"         // the VM used more memory than it may, for too long
	CauseVMM           Cause = "vmm"            // the process ended by itself or by a signal
)

// Exit is how a VM process ended.
type Exit struct {
	Cause Cause
	// Detail is for logs: exit status and the tail of the VMM's messages.
	Detail string
	At     time.Time
}
