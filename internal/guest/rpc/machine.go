package rpc

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// Kernel is what Configure and Quiesce do to the running kernel.
type Kernel interface {
	// Reseed mixes entropy into the random generator and makes every later
	// draw depend on it.
	Reseed(entropy []byte) error
	// SetClock sets the wall clock and returns how far it was moved.
	SetClock(now time.Time) (step time.Duration, err error)
	// CloseConnections ends the TCP connections with other machines that are
	// not the agent's, and returns how many there were.
	CloseConnections() (int, error)
	// Sync writes file systems back.
	Sync() error
	// Release names the kernel's version.
	Release() string
}

// Identity is what makes a machine its own in the eyes of its programs.
type Identity interface {
	// SetHostname sets the name in the kernel, /etc/hostname and /etc/hosts.
	SetHostname(name string) error
	// SetNameservers writes /etc/resolv.conf.
	SetNameservers(addresses []string) error
	// Renew makes machine id and boot id new.
	Renew() error
}

// Freezer stops and continues all user processes at once.
type Freezer interface {
	// Freeze returns how many processes stand still, once all do.
	Freeze(ctx context.Context) (frozen int, err error)
	Thaw(ctx context.Context) error
}

// Orphans are the commands of agents of this boot that have died.
type Orphans interface {
	// Begins notes that the command with a ticket is started in a group, and
	// Began that it has the process pid, for the agent that comes after this one.
	Begins(ticket uint64, group string)
	Began(ticket uint64, pid int)
	// End returns the wait status of the command with a ticket, and kills one
	// that still runs. A ticket that is no orphan's is NotFound.
	End(ctx context.Context, ticket uint64) (unix.WaitStatus, error)
}

// Vault keeps what must survive a restart of the agent within one boot, out of
// reach of any path.
type Vault interface {
	// Load returns what was saved last, or nothing.
	Load() ([]byte, error)
	// Save replaces it. Saving nothing wipes it.
	Save([]byte) error
}
