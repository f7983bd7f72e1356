package boot

import (
	"os"

	"github.com/wrenn-dev/wrenn/internal/guest/process"
)

// Platform is the Linux machine that the agent runs on. It implements
// agent.Platform.
type Platform struct {
	*Machine
	*Identity
	*Users
	*Orphans
	*process.Cgroups
	memory *Memory
}

// NewPlatform returns the platform of an agent that Init has started and that
// listens on ownPorts. It takes over the descriptors that the agent inherits.
func NewPlatform(ownPorts ...uint16) *Platform {
	// The names of cgroups must differ between the agents of one boot.
	prefix := "agent" + os.Getenv(StartEnv) + "-"
	return &Platform{
		Machine:  NewMachine(os.NewFile(DiskFD, "disk"), ownPorts...),
		Identity: NewIdentity("/"),
		Users:    NewUsers(UserCgroup),
		Orphans:  NewOrphans(OpenLedger(os.NewFile(LedgerFD, "ledger")), prefix),
		Cgroups:  process.NewCgroups(UserCgroup, prefix),
		memory:   OpenMemory(os.NewFile(MemoryFD, "memory")),
	}
}

// LoadSettings implements agent.SettingsStore.
func (p *Platform) LoadSettings() ([]byte, error) { return p.memory.Load() }

// SaveSettings implements agent.SettingsStore.
func (p *Platform) SaveSettings(b []byte) error { return p.memory.Save(b) }
