package host

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/host/cgroup"
	"github.com/wrenn-dev/wrenn/internal/host/network"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

// vmmOverheadMB is the memory, in MiB, that a VM process needs beside guest memory:
// translation cache, heap, libraries and page tables.
const vmmOverheadMB = 256

// vmmOverheadCPUs is the CPU share that a VM process may use beside its virtual
// CPUs, for disk and network emulation.
const vmmOverheadCPUs = 0.5

func (m *machine) vmConfig(memoryFile string) vmm.Config {
	cfg := vmm.Config{
		ID: m.name, Dir: m.dir.vm(),
		VCPUs: m.rec.Spec.VCPUs, MemoryMB: m.rec.Spec.MemoryMB,
		RootImage: m.rec.RootImage, Disk: m.dir.disk(), MemoryFile: memoryFile,
		OpenTap: m.slot.OpenTap, GuestMAC: network.GuestMAC, Cgroup: m.group.Dir(),
	}
	if base := m.mgr.cfg.UIDBase; base > 0 {
		cfg.UID = base + int(m.slot.Number())
		cfg.GID = cfg.UID
	}
	return cfg
}

// keepFiles makes root the owner of files that a VM process gets only as open
// descriptors, so that no process of the sandbox's user id can open them by name.
func keepFiles(paths ...string) error {
	for _, p := range paths {
		if err := chown(p, 0, 0); err != nil {
			return err
		}
	}
	return nil
}

// chown changes the owner of a file. An agent that is not root, as in tests
// without real VMs, owns all of its files and cannot give any away.
func chown(path string, uid, gid int) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(path, uid, gid)
}

func (m *machine) makeNetwork(ctx context.Context) error {
	slot, err := m.mgr.deps.Network.Acquire(ctx, m.name)
	if err != nil {
		return err
	}
	rec := slot.Record()
	m.slot, m.rec.Network = slot, &rec
	m.rec.GuestIP, m.rec.HostIP = slot.GuestAddr().String(), slot.HostAddr().String()
	return nil
}

func (m *machine) makeCgroup(ctx context.Context) error {
	group, err := m.mgr.deps.Cgroups.Create(m.name, m.limits())
	if fault.Is(err, fault.Exists) { // it could not be removed when the machine was paused
		group, err = m.mgr.deps.Cgroups.Reuse(ctx, m.name, m.limits())
	}
	m.group = group
	return err
}

// limits bound the VM process with all that it may start.
func (m *machine) limits() cgroup.Limits {
	return cgroup.Limits{
		MemoryBytes: int64(m.rec.Spec.MemoryMB+vmmOverheadMB) << 20,
		CPUs:        float64(m.rec.Spec.VCPUs) + vmmOverheadCPUs,
		PIDs:        256,
	}
}

// newGuest makes a client for the guest in the present slot.
func (m *machine) newGuest() *guestclient.Client {
	slot := m.slot
	return guestclient.New(func(ctx context.Context, port uint16) (net.Conn, error) { return slot.Dial(ctx, port) })
}

func (m *machine) setGuest(g *guestclient.Client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.guest = g
}

// dropGuest breaks every connection to the guest.
func (m *machine) dropGuest() {
	m.mu.Lock()
	g := m.guest
	m.guest, m.gateOpen = nil, false
	m.mu.Unlock()
	if g != nil {
		g.Close()
	}
}

func (m *machine) awaitGuest(ctx context.Context) error {
	g := m.newGuest()
	m.setGuest(g)
	return causeOr(ctx, g.WaitReady(ctx))
}

// randomToken is a new access token for a guest.
func randomToken() string {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails, see crypto/rand
	return hex.EncodeToString(random[:])
}

// guestEnv is the environment of every command: the variables of the sandbox, over
// the ones that tell a program where it runs.
func guestEnv(m *machine) map[string]string {
	env := map[string]string{"WRENN_SANDBOX": "true", "WRENN_SANDBOX_ID": string(m.rec.ID)}
	for k, v := range m.rec.Spec.Env {
		env[k] = v
	}
	return env
}

// console returns the end of the serial console, for the log.
func (m *machine) console(ctx context.Context) string {
	if m.vm == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	const keep = 2048
	out, err := m.vm.Console(ctx)
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	return untrusted.Line(string(out[max(0, len(out)-keep):]), keep)
}

// causeOr returns why ctx ended, where that is the reason for err.
func causeOr(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	return err
}
