package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// The statuses of a sandbox.
const (
	StatusPending = "pending" // booting
	StatusRunning = "running" // commands can run
	StatusPaused  = "paused"  // on disk, can be resumed
	StatusStopped = "stopped" // ended; StopReason says why
	StatusError   = "error"   // it never came up; Message says why
)

// Sandbox is a sandbox as the API shows it. A nil field is the API's null.
type Sandbox struct {
	ID string `json:"id"`
	// Name is the name that it was created with. Among sandboxes that have
	// not ended it is unique.
	Name     *string `json:"name"`
	Status   string  `json:"status"`
	Template string  `json:"template"`
	VCPUs    int     `json:"vcpus"`
	MemoryMB int     `json:"memory_mb"`
	DiskMB   int     `json:"disk_mb"`
	// TimeoutSec is the idle time after which OnTimeout happens; 0 means never.
	TimeoutSec int `json:"timeout_sec"`
	// GuestIP, HostIP and HostID are empty until it has run.
	GuestIP string `json:"guest_ip"`
	HostIP  string `json:"host_ip"`
	HostID  string `json:"host_id"`
	// Acceleration is "kvm" or "tcg" (software); Isolation "hardware" or
	// "process". Both are empty until it has a host.
	Acceleration string     `json:"acceleration"`
	Isolation    string     `json:"isolation"`
	CreatedAt    time.Time  `json:"created_at"`
	StartedAt    *time.Time `json:"started_at"`
	LastActiveAt *time.Time `json:"last_active_at"`
	LastUpdated  time.Time  `json:"last_updated"`
	EndedAt      *time.Time `json:"ended_at"`
	// StopReason says for programs why it ended: "expired", "destroyed", ...
	StopReason *string `json:"stop_reason"`
	// Message says for people what went wrong.
	Message  *string           `json:"message"`
	Metadata map[string]string `json:"metadata"`
	// LifetimeSec, OnTimeout and AutoResume are explained in Clocks.
	LifetimeSec int    `json:"lifetime_sec"`
	OnTimeout   string `json:"on_timeout"`
	AutoResume  bool   `json:"auto_resume"`
	// SnapshotID is the snapshot that it was created from, ParentID the
	// sandbox that it was forked from.
	SnapshotID *string `json:"snapshot_id"`
	ParentID   *string `json:"parent_id"`
	// Source is how it was made: "pool", "restore" or "fork".
	Source *string `json:"source"`
	// DiskFull: it stands still because its host's disk is full, and goes on by
	// itself when there is space.
	DiskFull bool `json:"disk_full"`
	// Health is nil where it neither runs nor is paused, or is not known yet.
	Health *GuestHealth `json:"health"`
	// RestoreReport is nil until it has run, and in lists.
	RestoreReport *RestoreReport `json:"restore_report"`
	Clocks        Clocks         `json:"clocks"`
}

// The states of a GuestHealth.
const (
	HealthOK           = "ok"
	HealthUnresponsive = "unresponsive"
)

// GuestHealth says whether a sandbox's guest answers its host. One that does not has
// not ended.
type GuestHealth struct {
	State string `json:"state"`
	// Since is when the guest was first found not to answer; nil while it does.
	Since *time.Time `json:"since"`
	// Forced says that it was paused without the guest's help, and that the guest
	// has not been renewed since.
	Forced bool `json:"forced"`
}

// RestoreReport is what was done, and measured, to make a machine that came from a
// snapshot correct and unique before any command ran in it.
type RestoreReport struct {
	// Generation is the incarnation it belongs to: 1, and one more with each
	// resume. At is when it was completed.
	Generation int64     `json:"generation"`
	At         time.Time `json:"at"`
	// ClockStepMS is how far the wall clock had to be moved, ClockSkewMS how
	// far it was from the host's afterwards. Positive is ahead.
	ClockStepMS float64 `json:"clock_step_ms"`
	ClockSkewMS float64 `json:"clock_skew_ms"`
	// Reseeded says that the guest's kernel confirmed fresh entropy.
	Reseeded       bool `json:"reseeded"`
	NewIdentity    bool `json:"new_identity"`
	TokenReplaced  bool `json:"token_replaced"`
	NetworkAnswers bool `json:"network_answers"`
	// VMGeneration is "vmgenid" or "none".
	VMGeneration      string `json:"vm_generation"`
	ConnectionsClosed int    `json:"connections_closed"`
	// StepsMS is how long each part took.
	StepsMS map[string]float64 `json:"steps_ms"`
}

// CreateRequest says what sandbox to make. The server fills in every zero
// field with its default.
type CreateRequest struct {
	// Name is yours: lower-case letters, digits, '.', '_' and '-'. The error
	// is 409 name_taken while another sandbox that has not ended has it.
	Name     string `json:"name,omitempty"`
	Template string `json:"template,omitempty"`
	VCPUs    int    `json:"vcpus,omitempty"`
	MemoryMB int    `json:"memory_mb,omitempty"`
	DiskMB   int    `json:"disk_mb,omitempty"`
	// TimeoutSec is the idle time after which OnTimeout happens. Nil is the
	// server's default; 0 means never.
	TimeoutSec *int `json:"timeout_sec,omitempty"`
	// LifetimeSec is the time from its start, or a resume, after which
	// OnTimeout happens, used or not. 0 means never.
	LifetimeSec int `json:"lifetime_sec,omitempty"`
	// OnTimeout is OnTimeoutDestroy, the default, or OnTimeoutPause.
	OnTimeout string `json:"on_timeout,omitempty"`
	// AutoResume has commands and files resume the sandbox when it is paused.
	AutoResume bool `json:"auto_resume,omitempty"`
	// SnapshotID makes the sandbox a copy of a snapshot, which then decides on
	// Template, VCPUs, MemoryMB and DiskMB.
	SnapshotID string `json:"snapshot_id,omitempty"`
	// Env is set for every command. The API never shows it again.
	Env map[string]string `json:"env,omitempty"`
	// Metadata is kept and returned as given.
	Metadata map[string]string `json:"metadata,omitempty"`
	// MinIsolation is the weakest isolation accepted: "process" or "hardware".
	MinIsolation string `json:"min_isolation,omitempty"`
}

// Create boots a sandbox and returns when commands can run in it.
func (c *Client) Create(ctx context.Context, in CreateRequest) (*Sandbox, error) {
	out := new(Sandbox)
	_, err := c.call(ctx, request{method: http.MethodPost, path: "/v1/sandboxes"}, in, out)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Get returns a sandbox. Ended ones stay readable for the server's retention
// time.
func (c *Client) Get(ctx context.Context, id string) (*Sandbox, error) {
	return c.sandbox(ctx, http.MethodGet, id, "")
}

// Pause writes a running sandbox to disk and frees its memory and CPU. One whose
// guest does not answer is left running, with the error code guest_unresponsive.
func (c *Client) Pause(ctx context.Context, id string) (*Sandbox, error) {
	return c.sandbox(ctx, http.MethodPost, id, "/pause")
}

// ForcePause is Pause, but keeps memory and disk of a guest that does not answer
// without its help. See GuestHealth.Forced.
func (c *Client) ForcePause(ctx context.Context, id string) (*Sandbox, error) {
	return c.sandbox(ctx, http.MethodPost, id, "/pause", "force", "true")
}

// Resume brings a paused sandbox back with its processes running.
func (c *Client) Resume(ctx context.Context, id string) (*Sandbox, error) {
	return c.sandbox(ctx, http.MethodPost, id, "/resume")
}

// Destroy ends a sandbox and returns when its machine is gone. Destroying an
// ended sandbox succeeds.
func (c *Client) Destroy(ctx context.Context, id string) error {
	path, err := sandboxPath(id, "")
	if err != nil {
		return err
	}
	_, err = c.call(ctx, request{method: http.MethodDelete, path: path}, nil, nil)
	return err
}

// sandbox calls what answers with a sandbox. params are names and values of the
// query string.
func (c *Client) sandbox(ctx context.Context, method, id, rest string, params ...string) (*Sandbox, error) {
	path, err := sandboxPath(id, rest)
	if err != nil {
		return nil, err
	}
	query := url.Values{}
	for i := 0; i+1 < len(params); i += 2 {
		query.Set(params[i], params[i+1])
	}
	out := new(Sandbox)
	if _, err := c.call(ctx, request{method: method, path: path, query: query}, nil, out); err != nil {
		return nil, err
	}
	return out, nil
}
