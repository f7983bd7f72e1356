package client

import (
	"context"
	"io"
	"net/http"
	"time"
)

// Host is a machine that runs sandboxes.
type Host struct {
	ID            string `json:"id"`
	AgentVersion  string `json:"agent_version"`
	GuestVersion  string `json:"guest_version"`
	Driver        string `json:"driver"`
	DriverVersion string `json:"driver_version"`
	// Acceleration is "kvm" or "tcg" (software); AccelerationReason says why.
	Acceleration       string `json:"acceleration"`
	AccelerationReason string `json:"acceleration_reason"`
	// Isolation is "hardware" or "process".
	Isolation string `json:"isolation"`
	// MultiTenant is false where the host must serve one tenant only.
	MultiTenant    bool       `json:"multi_tenant"`
	KernelRelease  string     `json:"kernel_release"`
	VCPUs          int        `json:"vcpus"`
	MemoryMB       int        `json:"memory_mb"`
	DiskTotalBytes int64      `json:"disk_total_bytes"`
	DiskFreeBytes  int64      `json:"disk_free_bytes"`
	Limits         HostLimits `json:"limits"`
	Templates      []string   `json:"templates"`
	// Draining hosts take no new sandboxes.
	Draining  bool `json:"draining"`
	Reachable bool `json:"reachable"`
	// BootRetries counts boots that needed a second try since its agent
	// started.
	BootRetries int64 `json:"boot_retries"`
	// Pools are the warm clones that it keeps.
	Pools []Pool `json:"pools"`
	// DiskReserveBytes is the free disk below which it refuses new sandboxes
	// and snapshots.
	DiskReserveBytes int64 `json:"disk_reserve_bytes"`
	// Reflink says that forks cost no copy of the disk.
	Reflink bool `json:"reflink"`
	// SeenAt is when it last answered.
	SeenAt *time.Time `json:"seen_at"`
}

// HostLimits bound one sandbox on a host.
type HostLimits struct {
	MaxVCPUs    int `json:"max_vcpus"`
	MinMemoryMB int `json:"min_memory_mb"`
	MaxMemoryMB int `json:"max_memory_mb"`
}

// Pool is one kind of warm clone that a host keeps.
type Pool struct {
	Template string `json:"template"`
	VCPUs    int    `json:"vcpus"`
	MemoryMB int    `json:"memory_mb"`
	DiskMB   int    `json:"disk_mb"`
	// Target is how many are wanted, Ready how many wait now.
	Target int `json:"target"`
	Ready  int `json:"ready"`
	// Hits and Misses count creates that found one and that did not, since
	// the host's agent started.
	Hits   int64 `json:"hits"`
	Misses int64 `json:"misses"`
}

// Garbage is what hosts keep though nothing needs it any more.
type Garbage struct {
	DryRun bool `json:"dry_run"`
	// Bytes is the sum of the items.
	Bytes int64         `json:"bytes"`
	Items []GarbageItem `json:"items"`
}

// GarbageItem is one piece of garbage.
type GarbageItem struct {
	HostID string `json:"host_id"`
	// Kind is "template_snapshot", "snapshot" or "vmm_build".
	Kind  string `json:"kind"`
	ID    string `json:"id"`
	Bytes int64  `json:"bytes"`
	// Reason says why nothing needs it.
	Reason string `json:"reason"`
}

// GCRequest says what a collection of garbage does.
type GCRequest struct {
	// DryRun only tells.
	DryRun bool `json:"dry_run"`
}

// GC removes, or only tells, what the hosts keep though nothing needs it.
func (c *Client) GC(ctx context.Context, in GCRequest) (*Garbage, error) {
	out := new(Garbage)
	if _, err := c.call(ctx, request{method: http.MethodPost, path: "/v1/gc"}, in, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Health is a sign of life.
type Health struct {
	Status  string `json:"status"`
	Version string `json:"version"`
}

// Hosts lists the hosts and what they can do.
func (c *Client) Hosts(ctx context.Context) ([]Host, error) {
	var out []Host
	_, err := c.call(ctx, request{method: http.MethodGet, path: "/v1/hosts"}, nil, &out)
	return out, err
}

// Health asks whether the server is alive.
func (c *Client) Health(ctx context.Context) (*Health, error) { return c.health(ctx, "/healthz") }

// Ready asks whether the server can serve: its database and its hosts answer.
func (c *Client) Ready(ctx context.Context) (*Health, error) { return c.health(ctx, "/readyz") }

// OpenAPI returns the server's description of its API, in YAML.
func (c *Client) OpenAPI(ctx context.Context) ([]byte, error) {
	resp, err := c.send(ctx, request{method: http.MethodGet, path: "/openapi.yaml"})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

func (c *Client) health(ctx context.Context, path string) (*Health, error) {
	out := new(Health)
	if _, err := c.call(ctx, request{method: http.MethodGet, path: path}, nil, out); err != nil {
		return nil, err
	}
	return out, nil
}
