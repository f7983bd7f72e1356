package agent

import (
	"context"
	"log/slog"

	"github.com/wrenn-dev/wrenn/internal/guest/filesystem"
	"github.com/wrenn-dev/wrenn/internal/guest/process"
)

// Config holds the dependencies of an Agent. Platform and Log are required.
type Config struct {
	Platform Platform
	// Root is the directory whose etc/passwd and etc/group list the users; empty
	// means "/".
	Root string
	Log  *slog.Logger
	// DirectWrites lets the content of large files pass over the page cache. It is for
	// kernels in which that is cheaper, on disks.
	DirectWrites bool
	// Version names the build of the guest.
	Version string
}

// Agent is the guest agent without a transport. Its methods may be used from
// several goroutines.
type Agent struct {
	platform    Platform
	processes   *process.Table
	accounts    *filesystem.Accounts
	files       *filesystem.Files
	log         *slog.Logger
	version     string
	state       state
	connections Connections
	// turn is held by the one Configure, Quiesce, Hold or Release under way. Its
	// holder owns the fields below.
	turn chan struct{}
	// pending are the settings of a Configure with Hold, until Release.
	pending *Settings
	// ensured are the users that Configure has already created or found.
	ensured []filesystem.User
}

// New returns a sealed agent, or an open one if c.Platform holds the settings of
// an earlier agent of this boot. It is sealed if they cannot be read.
func New(c Config) *Agent {
	if c.Platform == nil || c.Log == nil {
		panic("agent: Config is incomplete")
	}
	if c.Root == "" {
		c.Root = "/"
	}
	accounts := filesystem.NewAccounts(c.Root)
	a := &Agent{
		platform: c.Platform, processes: process.NewTable(c.Platform), accounts: accounts, files: filesystem.NewFiles(accounts, c.DirectWrites),
		log: c.Log, version: c.Version, state: state{store: c.Platform}, turn: make(chan struct{}, 1),
	}
	if err := a.state.recover(); err != nil {
		a.log.Error("sealed after a restart", slog.Any("error", err))
	}
	return a
}

// Close kills every command and waits for their ends until ctx ends. No command
// can be started afterwards.
func (a *Agent) Close(ctx context.Context) error { return a.processes.Close(ctx) }

// Processes returns the commands of this agent.
func (a *Agent) Processes() *process.Table { return a.processes }

// Files returns the files of the guest. The caller has resolved paths with an
// Actor.
func (a *Agent) Files() *filesystem.Files { return a.files }

// Connections returns the registry in which transports enter their connections.
func (a *Agent) Connections() *Connections { return &a.connections }

// Log returns the agent's log.
func (a *Agent) Log() *slog.Logger { return a.log }

// exclusive waits until no Configure, Quiesce, Hold or Release is under way.
func (a *Agent) exclusive(ctx context.Context) (release func(), err error) {
	select {
	case a.turn <- struct{}{}:
		return func() { <-a.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
