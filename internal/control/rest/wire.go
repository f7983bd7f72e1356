package rest

import (
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// sandboxJSON is the schema Sandbox.
type sandboxJSON struct {
	ID            string             `json:"id"`
	Name          *string            `json:"name"`
	Status        string             `json:"status"`
	Template      string             `json:"template"`
	VCPUs         int                `json:"vcpus"`
	MemoryMB      int                `json:"memory_mb"`
	DiskMB        int                `json:"disk_mb"`
	TimeoutSec    int64              `json:"timeout_sec"`
	GuestIP       string             `json:"guest_ip"`
	HostIP        string             `json:"host_ip"`
	HostID        string             `json:"host_id"`
	Acceleration  string             `json:"acceleration"`
	Isolation     string             `json:"isolation"`
	CreatedAt     time.Time          `json:"created_at"`
	StartedAt     *time.Time         `json:"started_at"`
	LastActiveAt  *time.Time         `json:"last_active_at"`
	LastUpdated   time.Time          `json:"last_updated"`
	EndedAt       *time.Time         `json:"ended_at"`
	StopReason    *string            `json:"stop_reason"`
	Message       *string            `json:"message"`
	Metadata      map[string]string  `json:"metadata"`
	LifetimeSec   int64              `json:"lifetime_sec"`
	OnTimeout     string             `json:"on_timeout"`
	AutoResume    bool               `json:"auto_resume"`
	SnapshotID    *string            `json:"snapshot_id"`
	ParentID      *string            `json:"parent_id"`
	Source        *string            `json:"source"`
	DiskFull      bool               `json:"disk_full"`
	Health        *guestHealthJSON   `json:"health"`
	RestoreReport *restoreReportJSON `json:"restore_report"`
	Clocks        clocksJSON         `json:"clocks"`
}

// listedJSON is a Sandbox in a list, without what only the answer for one
// sandbox has.
type listedJSON struct {
	sandboxJSON
	// RestoreReport hides the embedded field and is always absent.
	RestoreReport *struct{} `json:"restore_report,omitempty"`
}

// sandboxOf leaves out what is not the user's: the generation, and the
// environment, whose values are secrets. The isolation shown is what the
// sandbox has, not what was asked for.
func sandboxOf(sb control.Sandbox) sandboxJSON {
	metadata := sb.Metadata
	if metadata == nil {
		metadata = map[string]string{}
	}
	return sandboxJSON{
		ID:            string(sb.ID),
		Name:          nullable(sb.Name),
		Status:        string(sb.State.Status()),
		Template:      sb.Spec.Template,
		VCPUs:         sb.Spec.VCPUs,
		MemoryMB:      sb.Spec.MemoryMB,
		DiskMB:        sb.Spec.DiskMB,
		TimeoutSec:    int64(sb.Spec.Timeout / time.Second),
		GuestIP:       sb.GuestIP,
		HostIP:        sb.HostIP,
		HostID:        sb.HostID,
		Acceleration:  sb.Acceleration,
		Isolation:     string(sb.Isolation),
		CreatedAt:     sb.CreatedAt.UTC(),
		StartedAt:     utc(sb.StartedAt),
		LastActiveAt:  utc(sb.LastActiveAt),
		LastUpdated:   sb.UpdatedAt.UTC(),
		EndedAt:       utc(sb.EndedAt),
		StopReason:    nullable(string(sb.StopReason)),
		Message:       nullable(sb.Message),
		Metadata:      metadata,
		LifetimeSec:   int64(sb.Spec.Lifetime / time.Second),
		OnTimeout:     string(sb.Spec.OnTimeout),
		AutoResume:    sb.Spec.AutoResume,
		SnapshotID:    nullable(string(sb.SnapshotID)),
		ParentID:      nullable(string(sb.ParentID)),
		Source:        nullable(sb.Source),
		DiskFull:      sb.DiskFull,
		Health:        healthOf(sb.Health),
		RestoreReport: restoreReportOf(sb.RestoreReport),
		Clocks:        clocksOf(sb),
	}
}

// hostJSON is the schema Host.
type hostJSON struct {
	ID                 string     `json:"id"`
	AgentVersion       string     `json:"agent_version"`
	GuestVersion       string     `json:"guest_version"`
	Driver             string     `json:"driver"`
	DriverVersion      string     `json:"driver_version"`
	Acceleration       string     `json:"acceleration"`
	AccelerationReason string     `json:"acceleration_reason"`
	Isolation          string     `json:"isolation"`
	MultiTenant        bool       `json:"multi_tenant"`
	KernelRelease      string     `json:"kernel_release"`
	VCPUs              int        `json:"vcpus"`
	MemoryMB           int        `json:"memory_mb"`
	DiskTotalBytes     uint64     `json:"disk_total_bytes"`
	DiskFreeBytes      uint64     `json:"disk_free_bytes"`
	Limits             limitsJSON `json:"limits"`
	Templates          []string   `json:"templates"`
	Draining           bool       `json:"draining"`
	Reachable          bool       `json:"reachable"`
	SeenAt             *time.Time `json:"seen_at"`
	BootRetries        uint64     `json:"boot_retries"`
	Pools              []poolJSON `json:"pools"`
	DiskReserveBytes   uint64     `json:"disk_reserve_bytes"`
	Reflink            bool       `json:"reflink"`
}

// poolJSON is the schema Pool.
type poolJSON struct {
	Template string `json:"template"`
	VCPUs    int    `json:"vcpus"`
	MemoryMB int    `json:"memory_mb"`
	DiskMB   int    `json:"disk_mb"`
	Target   int    `json:"target"`
	Ready    int    `json:"ready"`
	Hits     uint64 `json:"hits"`
	Misses   uint64 `json:"misses"`
}

type limitsJSON struct {
	MaxVCPUs    int `json:"max_vcpus"`
	MinMemoryMB int `json:"min_memory_mb"`
	MaxMemoryMB int `json:"max_memory_mb"`
}

func hostOf(h control.HostInfo) hostJSON {
	templates := h.Templates
	if templates == nil {
		templates = []string{}
	}
	out := hostJSON{
		ID:                 h.ID,
		AgentVersion:       h.AgentVersion,
		GuestVersion:       h.GuestVersion,
		Driver:             h.Driver,
		DriverVersion:      h.DriverVersion,
		Acceleration:       h.Acceleration,
		AccelerationReason: h.AccelerationReason,
		Isolation:          string(h.Isolation),
		MultiTenant:        h.MultiTenant,
		KernelRelease:      h.KernelRelease,
		VCPUs:              h.VCPUs,
		MemoryMB:           h.MemoryMB,
		DiskTotalBytes:     h.DiskTotal,
		DiskFreeBytes:      h.DiskFree,
		Limits:             limitsOf(h.Limits),
		Templates:          templates,
		Draining:           h.Draining,
		Reachable:          h.Reachable,
		BootRetries:        h.BootRetries,
		Pools:              make([]poolJSON, 0, len(h.Pools)),
		DiskReserveBytes:   h.DiskReserve,
		Reflink:            h.Reflink,
	}
	for _, p := range h.Pools {
		out.Pools = append(out.Pools, poolJSON(p))
	}
	if !h.SeenAt.IsZero() {
		out.SeenAt = utc(&h.SeenAt)
	}
	return out
}

func limitsOf(l sandbox.Limits) limitsJSON {
	return limitsJSON{MaxVCPUs: l.MaxVCPUs, MinMemoryMB: l.MinMemoryMB, MaxMemoryMB: l.MaxMemoryMB}
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
