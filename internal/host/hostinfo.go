package host

import (
	"context"
	"runtime"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/linux/proc"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Info describes this host: its capacity, driver, isolation and versions.
type Info struct {
	HostID       string
	AgentVersion string
	GuestVersion string
	// Runtimes describe the drivers, the preferred one first.
	Runtimes      []vmm.Info
	KernelRelease string
	VCPUs         int
	// MemoryMB is the memory that all sandboxes together may be promised.
	MemoryMB            int
	DiskTotal, DiskFree uint64
	Limits              sandbox.Limits
	Templates           []string
	// TemplateDigests are the SHA-256 of their images in hex, in the same order.
	TemplateDigests []string
	Draining        bool
	BootRetries     uint64
	Pools           []PoolInfo
	DiskReserve     uint64
	// DiskRoomMB is the disk space, and MemoryRoomMB the memory, that new sandboxes may
	// still be promised.
	DiskRoomMB, MemoryRoomMB int
	// DiskMemoryShare is the memory that is promised for each MiB of a disk in memory.
	DiskMemoryShare float64
	// Reflink: files of the data directory can share blocks.
	Reflink bool
}

// Info describes the host at this moment.
func (m *Manager) Info(context.Context) (Info, error) {
	total, free, err := disk.Space(m.cfg.Dir)
	if err != nil {
		return Info{}, err
	}
	templates, err := m.deps.Images.Templates()
	if err != nil {
		return Info{}, err
	}
	names, digests := make([]string, 0, len(templates)), make([]string, 0, len(templates))
	for _, t := range templates {
		names, digests = append(names, t.Name), append(digests, t.Digest)
	}
	room, err := m.diskRoomMB()
	if err != nil {
		return Info{}, err
	}
	runtimes := make([]vmm.Info, len(m.drivers))
	for i, d := range m.drivers {
		runtimes[i] = d.Info()
	}
	m.mu.Lock()
	draining, held := m.draining, m.heldMemoryLocked()
	m.mu.Unlock()
	return Info{
		HostID: m.cfg.HostID, AgentVersion: m.cfg.Version, GuestVersion: m.deps.GuestVersion,
		Runtimes: runtimes, KernelRelease: runtimes[0].GuestKernel,
		VCPUs: hostCPUs(), MemoryMB: m.memoryMB(), DiskTotal: total, DiskFree: free,
		Limits: m.limits(), Templates: names, TemplateDigests: digests, Draining: draining, BootRetries: m.bootRetries.Load(),
		Pools: m.Pools(), DiskReserve: m.cfg.DiskReserveBytes, DiskRoomMB: max(room, 0),
		MemoryRoomMB: max(m.memoryMB()-held, 0), DiskMemoryShare: 1 / m.cfg.DiskOvercommit, Reflink: m.reflink,
	}, nil
}

func hostCPUs() int { return runtime.NumCPU() }

// realMemoryMB is the host's memory without its reserve.
func (m *Manager) realMemoryMB() int { return max(totalMemoryMB()-m.cfg.MemoryReserveMB, 0) }

// memoryMB is how much memory all sandboxes together may be promised.
func (m *Manager) memoryMB() int {
	return int(float64(m.realMemoryMB()) * m.cfg.MemoryOvercommit)
}

// limits are those of the largest sandboxes, under any runtime.
func (m *Manager) limits() sandbox.Limits {
	all := m.limitsUnder(m.drivers.Preferred().Info())
	for _, d := range m.drivers {
		all.MaxVCPUs = max(all.MaxVCPUs, m.limitsUnder(d.Info()).MaxVCPUs)
	}
	return all
}

// limitsUnder are the limits of sandboxes under one runtime.
func (m *Manager) limitsUnder(runtime vmm.Info) sandbox.Limits {
	return sandbox.Limits{
		MaxVCPUs: min(runtime.MaxVCPUs, sandbox.MaxVCPUs), MinMemoryMB: sandbox.MinMemoryMB,
		MaxMemoryMB: min(m.realMemoryMB(), sandbox.MaxMemoryMB),
	}
}

// totalMemoryMB is the memory of the host; 0 if that cannot be read.
func totalMemoryMB() int { return memInfoMB("MemTotal") }

// availableMemoryMB is the memory that can be used before the host has to swap.
func availableMemoryMB() int { return memInfoMB("MemAvailable") }

// memInfoMB reads one size of /proc/meminfo; 0 if it cannot be read.
func memInfoMB(name string) int {
	m, err := proc.ReadMemInfo()
	if err != nil {
		return 0
	}
	return int(m[name] >> 20)
}

// diskReserve refuses new sandboxes while the disk is nearly full, so that
// pause can still succeed.
func (m *Manager) diskReserve() error {
	return disk.CheckReserve(m.cfg.Dir, m.cfg.DiskReserveBytes)
}

// template finds the image that a sandbox asked for.
func (m *Manager) template(name string) (image.Template, error) {
	t, err := m.deps.Images.Template(name)
	if err == nil {
		err = m.deps.Images.Use(t)
	}
	if fault.Is(err, fault.NotFound) {
		return t, fault.Wrap(err, fault.Invalid, "template_not_found", "there is no template %q on this host", name)
	}
	return t, err
}
