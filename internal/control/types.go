package control

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Sandbox is a sandbox as the control plane knows it: the row.
//
// Spec.Env is empty in everything read back: its values are secrets that only
// the host needs, so they are never stored.
type Sandbox struct {
	ID sandbox.ID
	// Name is the user's; empty when there is none. Among sandboxes that have
	// not ended it is unique.
	Name       string
	Generation sandbox.Generation
	State      sandbox.State
	Spec       sandbox.Spec
	HostID     string
	// GuestIP and HostIP are empty until the sandbox has run.
	GuestIP, HostIP string
	// Acceleration ("kvm", "tcg") and Isolation are those of its host.
	Acceleration string
	Isolation    sandbox.Isolation
	// StopReason is empty until the sandbox has ended.
	StopReason sandbox.StopReason
	// Message names the failure to the user. Empty unless State is Error or a
	// fault ended the sandbox.
	Message      string
	CreatedAt    time.Time
	StartedAt    *time.Time
	LastActiveAt *time.Time
	// UpdatedAt is the time of the last move.
	UpdatedAt time.Time
	EndedAt   *time.Time
	// Metadata is the user's own, kept and returned as given.
	Metadata map[string]string
	// SnapshotID is the named snapshot that it was created from; empty for an
	// image and for forks.
	SnapshotID sandbox.SnapshotID
	// ParentID is the sandbox that it was forked from, or empty.
	ParentID sandbox.ID
	// Source is how its host made it ("pool", "restore", "fork"); empty until
	// it has run, and for a sandbox that was booted cold.
	Source string
	// RestoreReport is of its last start; nil until it has run.
	RestoreReport *sandbox.RestoreReport
	// LifetimeEndsAt is when its lifetime ends; nil when it has none or does
	// not run.
	LifetimeEndsAt *time.Time
	// DiskFull: its state is running, but its VM is stopped because the host's disk is full.
	DiskFull bool
	// Server is the server process that wrote the row or moved it last; zero is
	// unknown.
	Server ServerID
	// BuildID is the build of a template whose machine it is, or empty. Lists do not show
	// machines.
	BuildID string
	// DiskOnly is true while it is paused without its memory, so that a resume boots from
	// its disk. It is the host's last report, and not stored.
	DiskOnly bool
	// Health is the host's last report. It is not stored: zero where this server
	// has none yet, and where the sandbox neither runs nor is paused.
	Health sandbox.Health
}

// ServerID identifies one run of one control plane process. It is positive.
type ServerID int64

// Ref returns the incarnation that s describes.
func (s Sandbox) Ref() sandbox.Ref { return sandbox.Ref{ID: s.ID, Generation: s.Generation} }

// NewSandbox is a request to create a sandbox.
type NewSandbox struct {
	// Name is empty, or valid as sandbox.ValidName says. The error of Create
	// is Exists with ReasonNameTaken when a sandbox that has not ended has it.
	Name string
	Spec SpecRequest
	// SnapshotID makes the sandbox a copy of this snapshot. Empty is an image,
	// or the template or snapshot that Spec.Template names.
	SnapshotID sandbox.SnapshotID
	// Metadata may be nil.
	Metadata map[string]string
	// Progress, if not nil, is told the parts of a create that takes long, one call at a
	// time and none after the create.
	Progress func(CreateStage)
}

// Exec is one command.
type Exec struct {
	Cmd  string
	Args []string
	Env  map[string]string
	// Cwd and User are the guest's defaults when empty.
	Cwd, User string
	// Timeout is the command's lifetime, enforced in the guest.
	Timeout time.Duration
	// Stdin is given to the command, then closed. Nil is an empty stdin.
	Stdin []byte
	// Input is given to the command as it comes, instead of Stdin; nil is none.
	// Nothing is read of it before the command has started, so that it can be
	// given to a second attempt. When Exec returns it has been closed, if it
	// was read from. An error of its Read kills the command and is returned.
	Input Input
}

// Input is a stdin that comes while its command runs. Close ends a Read that
// waits; it may be called from any goroutine and more than once.
type Input interface {
	io.Reader
	Close() error
}

// ExecSink takes a command's output as it comes. Stdout and Stderr may keep
// nothing of p after they return. An error from either ends the command.
type ExecSink interface {
	Stdout(p []byte) error
	Stderr(p []byte) error
}

// ExecResult is how a command ended.
type ExecResult struct {
	// ExitCode is the command's own; 128 + n when signal n ended it, as shells do.
	ExitCode int
	// Signal is the name of the signal that ended it ("killed"), or empty.
	Signal string
	// OutOfMemory: it failed after the guest ended a process of it because the
	// sandbox's memory was used up.
	OutOfMemory bool
	Duration    time.Duration
}

// WriteFile says where an upload goes.
type WriteFile struct {
	Path string
	// User owns the file; empty is the guest's default user.
	User string
	// Mode is the permission bits; nil is 0644.
	Mode *uint32
	// Archive makes the content an archive (tar), which is unpacked below Path.
	Archive bool
	// Preserve keeps the owners that the archive names by number, and set-id bits. The User must
	// be root.
	Preserve bool
}

// ReadFile says which file is downloaded.
type ReadFile struct {
	// User reads the file; empty is the guest's default user.
	Path, User string
	// Archive asks for the path with everything below it, as an archive (tar).
	Archive bool
	// Range asks for a part of the file; nil is all of it.
	Range *FileRange
}

// FileRange selects a part of a file.
type FileRange struct {
	// Offset is that of the first byte; a negative one counts from the end.
	Offset int64
	// Length is in bytes; 0 means to the end.
	Length int64
	// IfTag asks for the whole file if its tag is another; empty asks for the part in
	// any case.
	IfTag string
}

// FilePart is the place of a part, in bytes, and the size of its file.
type FilePart struct{ Offset, Total int64 }

// File is a download under way. The caller closes Body.
type File struct {
	Name string
	// Size is -1 when it is not known beforehand.
	Size int64
	// Part is set if the content is a part of the file. A part of no bytes means that
	// the range is beyond the end.
	Part *FilePart
	// Tag changes with the content; empty where the guest does not know. It is the
	// guest's text of letters, digits and "-".
	Tag        string
	ModifiedAt time.Time
	Body       io.ReadCloser
}

// Filter narrows a list. The zero value is everything.
type Filter struct {
	Statuses []sandbox.Status
	// Template is a root image, or the id or the name of a template, with or without the
	// tag that was given.
	Template string
	// Name is the exact name; empty is any.
	Name string
	// Metadata are entries that a sandbox must have, with these values.
	Metadata map[string]string
	// Limit is the most rows returned; zero is no limit.
	Limit int
	// Cursor is the cursor of an earlier page; empty is the start.
	Cursor string
}

// API is everything that the public API can do; *Service implements it.
// Errors are faults: NotFound for an id that is not known, WrongState where
// the state forbids the call, HostFailed where the host agent failed.
type API interface {
	Sandboxes
	Clocks
	EgressLimits
	Forks
	Snapshots
	System
}

// Sandboxes are the operations on one sandbox.
type Sandboxes interface {
	// Create returns when commands can run.
	Create(ctx context.Context, n NewSandbox) (Sandbox, error)
	Get(ctx context.Context, id sandbox.ID) (Sandbox, error)
	// List returns newest first, and the cursor of the next page or "".
	List(ctx context.Context, f Filter) ([]Sandbox, string, error)
	// Destroy returns when the VM is gone. Destroying an ended sandbox succeeds.
	Destroy(ctx context.Context, id sandbox.ID) error
	// Pause is Unavailable guest_unresponsive where the guest does not answer;
	// then nothing has changed.
	Pause(ctx context.Context, id sandbox.ID) (Sandbox, error)
	// ForcePause is Pause, but keeps memory and disk of a guest that does not
	// answer without its help.
	ForcePause(ctx context.Context, id sandbox.ID) (Sandbox, error)
	// PauseDisk is Pause, but keeps nothing but the disk, so that a Resume is a Reboot.
	PauseDisk(ctx context.Context, id sandbox.ID) (Sandbox, error)
	Resume(ctx context.Context, id sandbox.ID) (Sandbox, error)
	// Reboot is Resume, but the sandbox boots from the disk of its pause, and the
	// processes of before have ended. If it fails, the sandbox is still paused.
	Reboot(ctx context.Context, id sandbox.ID) (Sandbox, error)
	// Exec runs a command to its end. Cancelling ctx kills it. It, WriteFile
	// and ReadFile resume a paused sandbox first if its spec says AutoResume.
	Exec(ctx context.Context, id sandbox.ID, e Exec, sink ExecSink) (ExecResult, error)
	WriteFile(ctx context.Context, id sandbox.ID, w WriteFile, content io.Reader) (int64, error)
	ReadFile(ctx context.Context, id sandbox.ID, r ReadFile) (*File, error)
	// CallFile and WatchFiles are those of FileTree. They resume a paused sandbox as
	// Exec does.
	CallFile(ctx context.Context, id sandbox.ID, call FileCall) (FilePage, error)
	WatchFiles(ctx context.Context, id sandbox.ID, w FileWatch, sink func(FileEvent) error) error
	// CallProcess and AttachProcess are those of Processes. They resume a paused
	// sandbox as Exec does, but for a passive ProcessList.
	CallProcess(ctx context.Context, id sandbox.ID, call ProcessCall) ([]Process, error)
	AttachProcess(ctx context.Context, id sandbox.ID, a ProcessAttach, sink ProcessSink) (Process, error)
}

// System are the operations on the installation as a whole.
type System interface {
	// Hosts returns the limits, capacity and versions of each host.
	Hosts(ctx context.Context) ([]HostInfo, error)
	// Ready fails when a request could not be served: no database, no host, or a
	// server that has just started and has not compared its rows with the hosts.
	Ready(ctx context.Context) error
	// CollectGarbage deletes unreferenced files on all hosts, or only lists them.
	CollectGarbage(ctx context.Context, mode GarbageMode) ([]Garbage, error)
}

// HostInfo describes a host: its capacity, drivers, isolation level and versions.
type HostInfo struct {
	ID           string
	AgentVersion string
	GuestVersion string
	// Runtimes are the runtimes that it offers, the preferred one first; none for a
	// host that has never been heard of.
	Runtimes      []HostRuntime
	KernelRelease string
	VCPUs         int
	MemoryMB      int
	DiskTotal     uint64
	DiskFree      uint64
	Limits        sandbox.Limits
	Templates     []string
	// TemplateDigests are the SHA-256 of their images in hex, in the same order; none from
	// an agent that does not report them.
	TemplateDigests []string
	Draining        bool
	// BootRetries counts boots that needed a second try since the agent started.
	BootRetries uint64
	// Pools are the warm clones that it keeps, one entry for each kind.
	Pools []Pool
	// DiskReserve is the free disk, in bytes, below which it refuses new
	// sandboxes and snapshots.
	DiskReserve uint64
	// DiskRoomMB is how much disk, in MiB, new sandboxes may be promised, and
	// MemoryRoomMB how much memory; math.MaxInt for a host that does not report it.
	DiskRoomMB, MemoryRoomMB int
	// Reflink says that files of its data share blocks.
	Reflink bool
	// DiskPauses says that it pauses sandboxes without memory and boots them from their
	// disks, which agents of earlier versions cannot.
	DiskPauses bool
	// Reachable says that the agent answered when it was last asked, SeenAt
	// when it last did.
	Reachable bool
	SeenAt    time.Time
}

// TemplateDigest returns the digest of the template's image, "" if it is not known. ok is
// false if h has no such template.
func (h HostInfo) TemplateDigest(name string) (digest string, ok bool) {
	i := slices.Index(h.Templates, name)
	if i >= 0 && i < len(h.TemplateDigests) {
		digest = h.TemplateDigests[i]
	}
	return digest, i >= 0
}

// Preferred returns the runtime that a sandbox gets on h if it asks for none; the
// zero HostRuntime for a host that has never been heard of.
func (h HostInfo) Preferred() HostRuntime {
	if len(h.Runtimes) == 0 {
		return HostRuntime{}
	}
	return h.Runtimes[0]
}

// HostRuntime is a runtime that a host offers.
type HostRuntime struct {
	Runtime       sandbox.Runtime
	Driver        string // "qemu"
	DriverVersion string
	// Acceleration is "kvm" or "tcg" of a virtual machine.
	Acceleration string
	// Reason says in a sentence why the host offers it in this form.
	Reason    string
	Isolation sandbox.Isolation
	// MultiTenant is true where tenants who distrust each other may share the host
	// under this runtime.
	MultiTenant bool
	// DiskMemoryShare is the memory that a sandbox is promised for each MiB of its
	// disk, in MiB; 0 where disks are not in memory.
	DiskMemoryShare float64
}

// Pool is one kind of warm clone that a host keeps.
type Pool struct {
	Template string
	Runtime  sandbox.Runtime
	VCPUs    int
	MemoryMB int
	DiskMB   int
	// Target is how many are wanted, Ready how many wait.
	Target, Ready int
	// Hits and Misses count creates that found one and that did not, since
	// the agent started.
	Hits, Misses uint64
}
