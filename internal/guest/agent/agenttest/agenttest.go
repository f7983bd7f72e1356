// Package agenttest runs the guest agent inside a test process, without
// privileges.
//
// Its Platform records the operations that the agent asks for and changes
// nothing but its own memory. It can fail at a named step. Tests of the agent,
// of its transports and of their clients use it, and so can a fake VM: commands
// and files are real ones of the test process.
package agenttest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/process"
)

// The fixed answers of a Platform.
const (
	// Orphan is the ticket of a command of an earlier agent that OrphanStatus
	// says a SIGKILL has ended.
	Orphan = 4711
	// Frozen is the number of processes that Freeze reports.
	Frozen = 3
	// Closed is the number of connections that CloseConnections reports.
	Closed = 2
	// ClockStep is the step that AdjustClock reports.
	ClockStep = time.Second
	// KernelRelease is the name of the kernel.
	KernelRelease = "test"
)

// ErrStep is the failure of the step that FailAt names.
var ErrStep = errors.New("this step of the platform was told to fail")

// Platform implements agent.Platform. The zero value is ready to use. Its
// methods may be used from several goroutines.
type Platform struct {
	process.NoGroups

	mu        sync.Mutex // protects the following
	steps     []string
	failing   string
	settings  []byte
	published []byte
	renewals  int
}

// NewPlatform returns a Platform that holds the saved settings of an earlier
// agent, or none.
func NewPlatform(settings []byte) *Platform { return &Platform{settings: settings} }

// FailAt makes every later step called name fail, or none for an empty name, and
// forgets the recorded steps.
func (p *Platform) FailAt(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failing, p.steps = name, nil
}

// Steps returns the steps since the start or the last FailAt: load, reseed,
// clock, renew, hostname, nameservers, save, connections, freeze, sync, thaw.
func (p *Platform) Steps() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.steps)
}

// Settings returns the saved settings, which are part of a snapshot of a fake
// VM's memory.
func (p *Platform) Settings() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.settings)
}

func (p *Platform) step(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps = append(p.steps, name)
	if name == p.failing {
		return ErrStep
	}
	return nil
}

// Reseed implements agent.Kernel.
func (p *Platform) Reseed([]byte) error { return p.step("reseed") }

// AdjustClock implements agent.Kernel.
func (p *Platform) AdjustClock(time.Duration) (time.Duration, error) {
	return ClockStep, p.step("clock")
}

// CloseConnections implements agent.Kernel.
func (p *Platform) CloseConnections() (int, error) { return Closed, p.step("connections") }

// Sync implements agent.Kernel.
func (p *Platform) Sync() error { return p.step("sync") }

// KernelRelease implements agent.Kernel.
func (*Platform) KernelRelease() string { return KernelRelease }

// SetHostname implements agent.Identity.
func (p *Platform) SetHostname(string) error { return p.step("hostname") }

// SetNameservers implements agent.Identity.
func (p *Platform) SetNameservers([]string) error { return p.step("nameservers") }

// RenewIdentity implements agent.Identity.
func (p *Platform) RenewIdentity() error {
	if err := p.step("renew"); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.renewals++
	return nil
}

// MachineID implements agent.Identity. The ids are "machine-1" and so on.
func (p *Platform) MachineID() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.renewals == 0 {
		return ""
	}
	return fmt.Sprintf("machine-%d", p.renewals)
}

// Freeze implements agent.Freezer.
func (p *Platform) Freeze(context.Context) (int, error) { return Frozen, p.step("freeze") }

// Thaw implements agent.Freezer.
func (p *Platform) Thaw(context.Context) error { return p.step("thaw") }

// LoadSettings implements agent.SettingsStore.
func (p *Platform) LoadSettings() ([]byte, error) {
	err := p.step("load")
	return p.Settings(), err
}

// SaveSettings implements agent.SettingsStore.
func (p *Platform) SaveSettings(b []byte) error {
	if err := p.step("save"); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settings = slices.Clone(b)
	return nil
}

// PublishSettings implements agent.SettingsStore. It can fail as "publish", and is no step.
func (p *Platform) PublishSettings(b []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failing == "publish" {
		p.published = nil
		return ErrStep
	}
	p.published = slices.Clone(b)
	return nil
}

// Published returns the bytes that programs of root can read.
func (p *Platform) Published() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.published)
}

// CommandStarting implements agent.Ledger.
func (*Platform) CommandStarting(uint64, string) {}

// CommandStarted implements agent.Ledger.
func (*Platform) CommandStarted(uint64, int) {}

// OrphanStatus implements agent.Ledger. It knows Orphan alone.
func (*Platform) OrphanStatus(_ context.Context, ticket uint64) (unix.WaitStatus, error) {
	if ticket != Orphan {
		return 0, fault.New(fault.NotFound, "process_not_found", "no command has the ticket %d", ticket)
	}
	return unix.WaitStatus(unix.SIGKILL), nil
}

// Root writes dir/etc/passwd and dir/home, in which the users root and user have
// the uid and gid of this process, and returns dir. As agent.Config.Root it lets
// commands start without privileges. An agent makes missing homes below its root, with
// owners that only root can give; these are not missing.
func Root(dir string) (string, error) {
	home, passwd := filepath.Join(dir, "home"), ""
	for _, name := range []string{"root", "user"} {
		passwd += fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh\n", name, os.Getuid(), os.Getgid(), home)
	}
	err := os.MkdirAll(filepath.Join(dir, "etc"), 0o755)
	if err == nil {
		err = os.MkdirAll(filepath.Join(dir, home), 0o755) // as the agent finds it
	}
	if err == nil {
		err = os.MkdirAll(home, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "etc", "passwd"), []byte(passwd), 0o644)
	}
	if err != nil {
		return "", fmt.Errorf("make accounts: %w", err)
	}
	return dir, nil
}
