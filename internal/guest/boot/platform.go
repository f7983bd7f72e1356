package boot

import (
	"bytes"
	"context"
	"os"
	"path/filepath"

	"github.com/wrenn-dev/wrenn/internal/guest/process"
)

// Platform is the Linux system that the agent runs on. It implements
// agent.Platform.
type Platform struct {
	*Machine
	*Users
	shared
	modules awaited
}

// NewGroup implements process.Groups. A command of the first moments waits for the kernel
// modules that it may need. If they take too long, it runs without them.
func (p *Platform) NewGroup(name string) (process.Group, error) {
	_ = p.modules.wait()
	return p.Cgroups.NewGroup(name)
}

// Sync writes the writable disk back. It comes before a template is made of the guest, and
// therefore waits until all kernel modules are loaded.
func (p *Platform) Sync() error {
	if err := p.modules.wait(); err != nil {
		return err
	}
	return p.Machine.Sync()
}

// NewPlatform returns the platform of an agent that Init has started and that
// listens on ownPorts. It takes over the descriptors that the agent inherits.
func NewPlatform(ownPorts ...uint16) *Platform {
	return &Platform{
		Machine: NewMachine(os.NewFile(DiskFD, "disk"), ownPorts...),
		Users:   newUsers(inherited),
		shared:  newShared(),
		modules: awaited{loaded: os.NewFile(ModulesFD, "modules")},
	}
}

// GVisorPlatform is the gVisor sandbox that the agent runs in. It implements
// agent.Platform.
type GVisorPlatform struct {
	*Sentry
	*HoldChannel
	shared
	watch *MemoryWatch
}

// NewGroup implements process.Groups.
func (p *GVisorPlatform) NewGroup(name string) (process.Group, error) {
	p.watch.Wake()
	group, err := p.Cgroups.NewGroup(name)
	if err != nil {
		return nil, err
	}
	watched := watchedGroup{group, p.watch, p.Cgroups.Name(name)}
	p.watch.began(watched.name)
	return watched, nil
}

// watchedGroup is a group whose commands the memory watch ends, and not the kernel.
type watchedGroup struct {
	process.Group
	watch *MemoryWatch
	name  string // of its directory
}

// OutOfMemory implements process.Group. The host ends a group as well, after it has set
// the group's limit of memory to 0 (host/vmm/gvisor).
func (g watchedGroup) OutOfMemory() bool {
	if g.watch.hasEnded(g.name) {
		return true
	}
	limit, err := os.ReadFile(filepath.Join(g.watch.users, g.name, "memory.max"))
	return err == nil && string(bytes.TrimSpace(limit)) == "0"
}

// Release implements process.Group.
func (g watchedGroup) Release() {
	g.Group.Release()
	g.watch.forget(g.name)
}

// WatchMemory ends commands before the memory of the sandbox is used up, until ctx
// ends.
func (p *GVisorPlatform) WatchMemory(ctx context.Context) { p.watch.Run(ctx) }

// NewGVisorPlatform returns the platform of an agent that Init has started in a
// gVisor sandbox. It takes over the descriptors that the agent inherits.
func NewGVisorPlatform() (*GVisorPlatform, error) {
	memory, err := givenMemory()
	if err != nil {
		return nil, err
	}
	return &GVisorPlatform{
		Sentry:      NewSentry(os.NewFile(DiskFD, "disk")),
		HoldChannel: OpenHoldChannel(os.NewFile(HoldFD, "hold")),
		shared:      newShared(),
		watch:       NewMemoryWatch(memory),
	}, nil
}

// shared is the part that platforms have in common.
type shared struct {
	*Identity
	*Orphans
	*process.Cgroups
	memory    *Memory
	published *Published
}

func newShared() shared {
	// The names of cgroups must differ between the agents of one boot.
	prefix := "agent" + os.Getenv(StartEnv) + "-"
	return shared{
		Identity:  NewIdentity("/"),
		Orphans:   NewOrphans(OpenLedger(os.NewFile(LedgerFD, "ledger")), prefix),
		Cgroups:   process.NewCgroups(inherited.users(), prefix),
		memory:    OpenMemory(os.NewFile(MemoryFD, "memory")),
		published: OpenPublished(os.NewFile(PublishedFD, "settings")),
	}
}

// LoadSettings implements agent.SettingsStore.
func (s shared) LoadSettings() ([]byte, error) { return s.memory.Load() }

// SaveSettings implements agent.SettingsStore.
func (s shared) SaveSettings(b []byte) error { return s.memory.Save(b) }

// PublishSettings implements agent.SettingsStore.
func (s shared) PublishSettings(b []byte) error { return s.published.Replace(b) }
