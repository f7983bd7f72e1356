package control

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control/reconcile"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Store holds the rows of sandboxes, snapshots and hosts. It is the contract of the
// database as a whole; each use case declares the few methods that it needs as an
// interface of its own. Its errors are faults; a failure of the database is Internal
// and never looks like a missing row.
type Store interface {
	Rows
	SnapshotRows
	HostRows
	ServerSessions
}

// Rows are the sandboxes, one row each.
type Rows interface {
	// Insert writes a new row, state Pending and generation as given, in the
	// transaction in which it checks that its host can carry it. The error is
	// NoCapacity when it cannot, with ReasonHostNotRecorded when SaveHost has
	// not been called for it. The row comes back with its timestamps. A crash
	// of the database may lose a row that has not been moved yet.
	Insert(ctx context.Context, row Sandbox) (Sandbox, error)
	// InsertFork writes the rows of a fork's children, all on one host, and
	// that of the snapshot they start from, all or none, in the transaction
	// in which it checks that the host can carry them together.
	InsertFork(ctx context.Context, snap Snapshot, rows []Sandbox) ([]Sandbox, error)
	// Get returns NotFound for an id that has no row.
	Get(ctx context.Context, id sandbox.ID) (Sandbox, error)
	// List returns the newest first, and the cursor of the next page or "". Rows that
	// serve a build are left out.
	List(ctx context.Context, f Filter) ([]Sandbox, string, error)
	// Move is a compare-and-set. If the row still is as m says, the change is
	// made and the new row returned with won true. If it is not, nothing
	// changes and the row as it is comes back with won false. A move that
	// sandbox.CanMove forbids is Internal. A move to Resuming takes the
	// host's capacity again, and is NoCapacity if there is none.
	Move(ctx context.Context, m Move) (row Sandbox, won bool, err error)
	// SetClocks is a compare-and-set of the clocks of a row, as Move is of its
	// state.
	SetClocks(ctx context.Context, c ClockChange) (row Sandbox, won bool, err error)
	// SetEgress is a compare-and-set of the limits of outgoing traffic of a row, as
	// Move is of its state.
	SetEgress(ctx context.Context, c EgressChange) (row Sandbox, won bool, err error)
	// SaveRuntime writes the runtime information of a sandbox that runs, if the row
	// says so too.
	// The end of its lifetime is taken only if the host keeps the lifetime
	// that the row has.
	SaveRuntime(ctx context.Context, v ObservedSandbox) error
	// Machines returns the rows of a build that have not ended, and of all builds for "".
	Machines(ctx context.Context, build string) ([]Sandbox, error)
	// Unended returns every row of a host that has not ended.
	Unended(ctx context.Context, hostID string) ([]Sandbox, error)
	// Touch raises last_active_at; rows that are gone are passed over.
	Touch(ctx context.Context, seen map[sandbox.ID]time.Time) error
	// DeleteEnded deletes at most limit rows that ended more than age ago and
	// returns how many it deleted.
	DeleteEnded(ctx context.Context, age time.Duration, limit int) (int, error)
}

// HostRows are the hosts and their capacity.
type HostRows interface {
	// SaveHost records a host and the capacity that Insert and Move check.
	SaveHost(ctx context.Context, h HostInfo, c Capacity) error
	// Usage returns, by host id, the capacity that rows hold.
	Usage(ctx context.Context) (map[string]Capacity, error)
}

// ServerSessions are the servers that use the store now.
type ServerSessions interface {
	// Ping fails unless the store can be read and takes writes. An answer may be
	// one second old.
	Ping(ctx context.Context) error
	// HoldServer makes id a live server for as long as it runs: until ctx ends
	// or the connection breaks, and at the latest until the process ends. It
	// calls held once id is live, and always returns an error.
	HoldServer(ctx context.Context, id ServerID, held func()) error
	// LiveServers returns those of ids that are live.
	LiveServers(ctx context.Context, ids []ServerID) ([]ServerID, error)
}

// ReasonHostNotRecorded is the reason of an Insert on a host that the store
// has not been told of.
const ReasonHostNotRecorded = "host_not_recorded"

// Capacity is an amount of a host's CPUs and memory.
type Capacity struct {
	VCPUs    int
	MemoryMB int
}

// Move is one step of a sandbox's life. From and Ref must be the values that the
// mover last read.
type Move struct {
	Ref      sandbox.Ref
	From, To sandbox.State
	// Runtime, when given, is the host's report about the VM.
	Runtime *RuntimeInfo
	// ActiveAt, when given, is the last use that the host reports. It is written if
	// it is later than that of the row: a resume is use.
	ActiveAt time.Time
	// StopReason and Message are written when not empty.
	StopReason sandbox.StopReason
	Message    string
	// Server makes the move.
	Server ServerID
}

// Next returns the generation that the row has after m: a resume begins a new
// incarnation, everything else keeps it.
func (m Move) Next() sandbox.Generation {
	if m.To == sandbox.Resuming {
		return m.Ref.Generation + 1
	}
	return m.Ref.Generation
}

// RuntimeInfo are properties of a running VM that only its host knows.
type RuntimeInfo struct {
	GuestIP, HostIP string
	Acceleration    string
	Isolation       sandbox.Isolation
	StartedAt       time.Time
	// LifetimeEndsAt is zero when it has no lifetime or does not run.
	LifetimeEndsAt time.Time
	// RestoreReport is of the last start; nil when the host does not tell.
	RestoreReport *sandbox.RestoreReport
	// Source is how it was made: "pool", "restore", "fork" or empty.
	Source string
	// DiskFull: its VM is stopped because the host's disk is full.
	DiskFull bool
}

// Fleet knows the hosts there are.
type Fleet interface {
	// Hosts returns each host's last report of itself, in a stable order. A host
	// never heard of yet has only its ID and Reachable false.
	Hosts() []HostInfo
	// Host returns the connection to one host. ok is false for an id that is
	// not in the fleet.
	Host(id string) (h Host, ok bool)
	// Refresh asks a host for its HostInfo now and remembers the answer, or
	// that it did not answer.
	Refresh(ctx context.Context, id string) (HostInfo, error)
}

// Host is one host agent. Errors are faults. One for which [OutcomeUnknown] is
// true leaves open whether the command took effect; any other is definite.
type Host interface {
	Lifecycle
	Guest
	FileTree
	Processes
	Snapshotter
	StateReporter
	ImageImporter
}

// Lifecycle moves VMs. Each command names an incarnation; the host refuses one
// that is older than the one it knows with a Stale fault.
type Lifecycle interface {
	// Create returns when commands can run. A second call with the same Ref
	// joins the first. With a snapshot the sandbox starts as its copy, and
	// the sizes are the snapshot's; empty is the image spec names.
	Create(ctx context.Context, ref sandbox.Ref, spec sandbox.Spec, from sandbox.SnapshotID) (ObservedSandbox, error)
	// Destroy returns after the VM is gone and makes the host forget it.
	// Unknown ids succeed.
	Destroy(ctx context.Context, ref sandbox.Ref, reason sandbox.StopReason) error
	// Pause returns when the snapshot is durable. It is Unavailable
	// guest_unresponsive where the guest does not answer.
	Pause(ctx context.Context, ref sandbox.Ref) (ObservedSandbox, error)
	// ForcePause is Pause without the guest's help where that does not answer.
	ForcePause(ctx context.Context, ref sandbox.Ref) (ObservedSandbox, error)
	// PauseDisk is Pause without memory. A resume boots from the disk.
	PauseDisk(ctx context.Context, ref sandbox.Ref) (ObservedSandbox, error)
	// Resume takes the Ref of the new incarnation.
	Resume(ctx context.Context, ref sandbox.Ref) (ObservedSandbox, error)
	// ResumeForUse is Resume, but WrongState paused_without_memory after a PauseDisk.
	ResumeForUse(ctx context.Context, ref sandbox.Ref) (ObservedSandbox, error)
	// Reboot is Resume without the memory of the pause. If it fails, the VM is paused.
	Reboot(ctx context.Context, ref sandbox.Ref) (ObservedSandbox, error)
	// SetTimeouts changes the clocks of a VM in any state but stopped. A
	// lifetime that is given counts from now.
	SetTimeouts(ctx context.Context, ref sandbox.Ref, t TimeoutChange) (ObservedSandbox, error)
	// SetEgress replaces the limits of outgoing traffic of a VM that runs or is
	// paused. It is Unsupported with an agent of an earlier version. The same limits
	// again succeed.
	SetEgress(ctx context.Context, ref sandbox.Ref, limits sandbox.Egress) (ObservedSandbox, error)
}

// Snapshotter takes and deletes snapshots, and collects garbage.
type Snapshotter interface {
	// CreateSnapshot returns once the snapshot can be used; a named one is
	// durable then. The sandbox continues unchanged.
	CreateSnapshot(ctx context.Context, ref sandbox.Ref, id sandbox.SnapshotID, kind SnapshotKind) (ObservedSnapshot, error)
	// ForceSnapshot is CreateSnapshot without the guest's help where that does
	// not answer.
	ForceSnapshot(ctx context.Context, ref sandbox.Ref, id sandbox.SnapshotID, kind SnapshotKind) (ObservedSnapshot, error)
	// SnapshotDisk is CreateSnapshot without memory. It is WrongState paused_with_memory
	// of a sandbox that was paused with its memory, and Unsupported
	// disk_pause_unsupported from an agent of an earlier version.
	SnapshotDisk(ctx context.Context, ref sandbox.Ref, id sandbox.SnapshotID, kind SnapshotKind) (ObservedSnapshot, error)
	// DeleteSnapshot makes a snapshot unusable at once. Unknown ids succeed.
	DeleteSnapshot(ctx context.Context, id sandbox.SnapshotID) error
	// Snapshots returns all there are, also deleted ones that are in use.
	Snapshots(ctx context.Context) ([]ObservedSnapshot, error)
	CollectGarbage(ctx context.Context, mode GarbageMode) ([]Garbage, error)
}

// Guest works inside running VMs.
type Guest interface {
	Exec(ctx context.Context, ref sandbox.Ref, e Exec, sink ExecSink) (ExecResult, error)
	// WriteFile reads content to its end and returns the number of bytes written.
	WriteFile(ctx context.Context, ref sandbox.Ref, w WriteFile, content io.Reader) (int64, error)
	// ReadFile returns once the file is open. ctx bounds the whole download.
	ReadFile(ctx context.Context, ref sandbox.Ref, r ReadFile) (*File, error)
	// DialPort connects to a program that listens on a TCP port of the guest. ctx
	// bounds the connecting. The error is HostFailed with ReasonPortRefused where
	// nothing listens. The caller closes the connection.
	DialPort(ctx context.Context, ref sandbox.Ref, port uint16, options ...DialOption) (PortConn, error)
}

// DialOption is an option of DialPort.
type DialOption int

// Passive makes a connection that is no use of its sandbox: it does not resume the
// sandbox, its bytes do not delay the idle timeout, and a pause cuts it at once. It is
// for callers without credentials.
const Passive DialOption = 1

// PortConn is a connection to a program in a guest. Read returns io.EOF only if the
// program has ended the connection cleanly; it fails in any other way when the sandbox
// is paused or ends.
type PortConn interface {
	net.Conn
	// CloseWrite ends the direction to the program; the other one stays open.
	CloseWrite() error
}

// StateReporter reports the state of the host's sandboxes.
type StateReporter interface {
	// Sandbox returns one sandbox that the host owns, in any state, and nil if
	// the host does not know it.
	Sandbox(ctx context.Context, id sandbox.ID) (*ObservedSandbox, error)
	// Sandboxes returns everything the host owns, ended VMs included until
	// they are destroyed.
	Sandboxes(ctx context.Context) ([]ObservedSandbox, error)
	// Watch calls ready once, after which no change is missed, and on for each
	// change, until ctx ends or the connection breaks. It always returns an
	// error.
	Watch(ctx context.Context, ready func(), on func(ObservedSandbox)) error
}

// ObservedSandbox is a sandbox as its host knows it.
type ObservedSandbox struct {
	Ref   sandbox.Ref
	Spec  sandbox.Spec
	State VMState
	// StopReason is set when State is VMStopped.
	StopReason   sandbox.StopReason
	Runtime      RuntimeInfo
	LastActiveAt time.Time
	// TemplateDigest is the digest of the image it runs on.
	TemplateDigest string
	// SnapshotID is the snapshot it was created from, or empty.
	SnapshotID sandbox.SnapshotID
	// Steps is how long each step of the last operation took.
	Steps map[string]time.Duration
	// Busy: the host has an operation on it under way or waiting.
	Busy bool
	// DiskOnly is true if it is paused without memory.
	DiskOnly bool
	// Stage is the part of its create that is under way, or empty. It may be none that this
	// program knows.
	Stage CreateStage
	// Health is zero unless it runs or is paused.
	Health sandbox.Health
}

// VMState is the state of a VM on its host. The rules of package reconcile
// compare it with the state of the row.
type VMState = reconcile.VMState

// The states of a VM on its host.
const (
	VMStarting = reconcile.VMStarting
	VMRunning  = reconcile.VMRunning
	VMPausing  = reconcile.VMPausing
	VMPaused   = reconcile.VMPaused
	VMResuming = reconcile.VMResuming
	VMStopping = reconcile.VMStopping
	VMStopped  = reconcile.VMStopped
)

// VMStates lists every VMState.
func VMStates() []VMState { return reconcile.VMStates() }

// errUnknown marks errors whose outcome is unknown.
var errUnknown = errors.New("the outcome is unknown")

// unknown adds errUnknown to an error without changing its text.
type unknown struct{ error }

func (u unknown) Unwrap() []error { return []error{u.error, errUnknown} }

// MarkUnknown returns err such that OutcomeUnknown is true for it. Hosts use
// it. MarkUnknown(nil) is nil.
func MarkUnknown(err error) error {
	if err == nil {
		return nil
	}
	return unknown{err}
}

// OutcomeUnknown reports whether err leaves open if a command took effect: the
// host itself did not say.
func OutcomeUnknown(err error) bool { return errors.Is(err, errUnknown) }
