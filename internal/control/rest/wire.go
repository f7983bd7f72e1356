package rest

import (
	"math"
	"time"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func hostOf(h control.HostInfo) types.Host {
	templates := sandbox.PublicTemplates(h.Templates)
	preferred := h.Preferred()
	out := types.Host{
		ID:                 h.ID,
		AgentVersion:       h.AgentVersion,
		GuestVersion:       h.GuestVersion,
		Driver:             preferred.Driver,
		DriverVersion:      preferred.DriverVersion,
		Acceleration:       preferred.Acceleration,
		AccelerationReason: preferred.Reason,
		Isolation:          string(preferred.Isolation),
		MultiTenant:        preferred.MultiTenant,
		KernelRelease:      h.KernelRelease,
		VCPUs:              h.VCPUs,
		MemoryMB:           h.MemoryMB,
		DiskTotalBytes:     int64(h.DiskTotal),
		DiskFreeBytes:      int64(h.DiskFree),
		Limits:             limitsOf(h.Limits),
		Templates:          templates,
		Draining:           h.Draining,
		Reachable:          h.Reachable,
		BootRetries:        int64(h.BootRetries),
		Pools:              make([]types.Pool, 0, len(h.Pools)),
		DiskReserveBytes:   int64(h.DiskReserve),
		Reflink:            h.Reflink,
		Runtimes:           make([]types.HostRuntime, 0, len(h.Runtimes)),
	}
	for _, r := range h.Runtimes {
		out.Runtimes = append(out.Runtimes, types.HostRuntime{
			Runtime: string(r.Runtime), Driver: r.Driver, DriverVersion: r.DriverVersion, Acceleration: r.Acceleration,
			Reason: r.Reason, Isolation: string(r.Isolation), MultiTenant: r.MultiTenant,
			DiskMemoryShare: r.DiskMemoryShare,
		})
	}
	for _, p := range h.Pools {
		out.Pools = append(out.Pools, types.Pool{
			Template: p.Template, Runtime: string(p.Runtime), VCPUs: p.VCPUs, MemoryMB: p.MemoryMB, DiskMB: p.DiskMB,
			Target: p.Target, Ready: p.Ready, Hits: int64(p.Hits), Misses: int64(p.Misses),
		})
	}
	if !h.SeenAt.IsZero() {
		out.SeenAt = utc(&h.SeenAt)
		out.DiskRoomMB, out.MemoryRoomMB = roomOf(h.DiskRoomMB), roomOf(h.MemoryRoomMB)
	}
	return out
}

// roomOf returns nil for a host agent that does not report its room. Package control
// then holds the largest int, so that placement is not limited.
func roomOf(mb int) *int64 {
	if mb == math.MaxInt {
		return nil
	}
	room := int64(mb)
	return &room
}

func limitsOf(l sandbox.Limits) types.HostLimits {
	return types.HostLimits{MaxVCPUs: l.MaxVCPUs, MinMemoryMB: l.MinMemoryMB, MaxMemoryMB: l.MaxMemoryMB}
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}

// nullable returns nil, which is null in JSON, for "".
func nullable(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
