package agent

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/guest/process"
)

// Platform has the operations of the guest's system that need privileges. An Agent
// works through it. The agent never calls two methods of Kernel, Identity, Freezer or
// SettingsStore at the same time; those of Ledger and process.Groups must be
// safe for concurrent use.
type Platform interface {
	Kernel
	Identity
	Freezer
	SettingsStore
	Ledger
	process.Groups
}

// Kernel changes the running kernel.
type Kernel interface {
	// Reseed mixes entropy into the random generator and makes every later
	// draw depend on it.
	Reseed(entropy []byte) error
	// AdjustClock moves the wall clock forward by step, or back if step is negative, in
	// one operation: a delay of the caller makes no error. It returns how far the clock
	// was moved, which is 0 where the clock is not the guest's own.
	AdjustClock(step time.Duration) (moved time.Duration, err error)
	// CloseConnections ends the TCP connections with other machines that are
	// not the agent's, and returns how many there were.
	CloseConnections() (int, error)
	// Sync writes file systems back.
	Sync() error
	// KernelRelease returns the kernel's release, as uname -r prints it.
	KernelRelease() string
}

// Identity changes the names by which programs know their system.
type Identity interface {
	// SetHostname sets the name in the kernel, /etc/hostname and /etc/hosts.
	SetHostname(name string) error
	// SetNameservers writes /etc/resolv.conf.
	SetNameservers(addresses []string) error
	// RenewIdentity replaces the machine id and the boot id.
	RenewIdentity() error
	// MachineID returns the machine id of the last RenewIdentity, or "" if this process has not
	// set one.
	MachineID() string
}

// Freezer stops and continues all user processes at once.
type Freezer interface {
	// Freeze returns once every user process has stopped, with their number.
	// On error some may be frozen: Thaw must follow.
	Freeze(ctx context.Context) (frozen int, err error)
	// Thaw continues every user process. It is idempotent.
	Thaw(ctx context.Context) error
}

// SettingsStore keeps the agent's settings over a restart of the agent within
// one boot, where no path leads to them, and publishes a part of them to root.
type SettingsStore interface {
	// LoadSettings returns the bytes saved last, or none.
	LoadSettings() ([]byte, error)
	// SaveSettings replaces and overwrites the saved bytes. Saving none wipes
	// them.
	SaveSettings([]byte) error
	// PublishSettings replaces and overwrites the bytes that programs of root can
	// read in the guest. Publishing none wipes them, and an error leaves none.
	PublishSettings([]byte) error
}

// Ledger records the commands that the host started with a ticket, so that a
// later agent of the same boot can tell how they ended.
type Ledger interface {
	// CommandStarting records that the command with ticket is about to start in
	// the group, and CommandStarted that its process has the number pid.
	CommandStarting(ticket uint64, group string)
	CommandStarted(ticket uint64, pid int)
	// OrphanStatus returns the wait status of a command that an earlier agent
	// started, and kills it if it still runs. Any other ticket is NotFound.
	OrphanStatus(ctx context.Context, ticket uint64) (unix.WaitStatus, error)
}
