package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/wrenn-dev/wrenn/api/types"
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
type Sandbox = types.Sandbox

// The states of a GuestHealth.
const (
	HealthOK           = "ok"
	HealthUnresponsive = "unresponsive"
)

// GuestHealth tells whether a sandbox's guest answers its host. A guest that
// does not answer has not ended.
type GuestHealth = types.GuestHealth

// RestoreReport lists the steps and measurements that made a sandbox restored from
// a snapshot correct and unique before any command ran in it.
type RestoreReport = types.RestoreReport

// CreateRequest describes the sandbox to create. The server fills in every zero
// field with its default.
type CreateRequest = types.CreateSandboxRequest

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

// Pause writes a running sandbox to disk and frees its memory and CPU. If its
// guest does not answer, it keeps running, and the error has the code
// guest_unresponsive.
func (c *Client) Pause(ctx context.Context, id string) (*Sandbox, error) {
	return c.sandbox(ctx, http.MethodPost, id, "/pause")
}

// ForcePause is Pause, but saves memory and disk even if the guest does not
// answer. See GuestHealth.Forced.
func (c *Client) ForcePause(ctx context.Context, id string) (*Sandbox, error) {
	return c.sandbox(ctx, http.MethodPost, id, "/pause", "force", "true")
}

// PauseWithoutMemory is Pause, but keeps nothing but the disk. The next Resume boots the
// sandbox: its files stay, and its processes have ended.
func (c *Client) PauseWithoutMemory(ctx context.Context, id string) (*Sandbox, error) {
	return c.withoutMemory(ctx, id, "/pause")
}

// Reboot brings a paused sandbox back by a boot from its disk: its files stay, and the
// processes of before have ended.
func (c *Client) Reboot(ctx context.Context, id string) (*Sandbox, error) {
	return c.withoutMemory(ctx, id, "/resume")
}

func (c *Client) withoutMemory(ctx context.Context, id, rest string) (*Sandbox, error) {
	path, err := sandboxPath(id, rest)
	if err != nil {
		return nil, err
	}
	memory, out := false, new(Sandbox)
	if _, err := c.call(ctx, request{method: http.MethodPost, path: path}, types.MemoryRequest{Memory: &memory}, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Resume brings a paused sandbox back with its processes running, or boots it after a
// PauseWithoutMemory.
func (c *Client) Resume(ctx context.Context, id string) (*Sandbox, error) {
	return c.sandbox(ctx, http.MethodPost, id, "/resume")
}

// Destroy ends a sandbox and returns when its VM is gone. Destroying an
// ended sandbox succeeds.
func (c *Client) Destroy(ctx context.Context, id string) error {
	path, err := sandboxPath(id, "")
	if err != nil {
		return err
	}
	_, err = c.call(ctx, request{method: http.MethodDelete, path: path}, nil, nil)
	return err
}

// sandbox calls an operation that answers with a sandbox. params are names and
// values of the query string.
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
