package client

import (
	"context"
	"net/http"
	"time"
)

// What happens to a sandbox one of whose clocks has run out.
const (
	OnTimeoutDestroy = "destroy"
	OnTimeoutPause   = "pause"
)

// Clocks are the three clocks of a sandbox. They are independent of each other.
type Clocks struct {
	// CommandTimeoutSec is the lifetime of a command that names none.
	CommandTimeoutSec int `json:"command_timeout_sec"`
	// IdleTimeoutSec is the time without use after which OnTimeout happens;
	// 0 means never. IdleExpiresAt is when that is, at the earliest; nil
	// unless the clock runs.
	IdleTimeoutSec int        `json:"idle_timeout_sec"`
	IdleExpiresAt  *time.Time `json:"idle_expires_at"`
	// LifetimeSec is the time from the last start, or from its last change,
	// after which OnTimeout happens, used or not; 0 means never.
	// LifetimeExpiresAt is when that is; nil unless the clock runs.
	LifetimeSec       int        `json:"lifetime_sec"`
	LifetimeExpiresAt *time.Time `json:"lifetime_expires_at"`
	// OnTimeout is OnTimeoutDestroy or OnTimeoutPause.
	OnTimeout string `json:"on_timeout"`
	// AutoResume has commands and files resume the sandbox when it is paused.
	AutoResume bool `json:"auto_resume"`
}

// TimeoutRequest says which clocks to change. Nil stays as it is.
type TimeoutRequest struct {
	TimeoutSec *int `json:"timeout_sec,omitempty"`
	// LifetimeSec counts from now. ExtendSec moves the end of the lifetime
	// that there is later by so much; give one of the two.
	LifetimeSec *int    `json:"lifetime_sec,omitempty"`
	ExtendSec   *int    `json:"extend_sec,omitempty"`
	OnTimeout   *string `json:"on_timeout,omitempty"`
	AutoResume  *bool   `json:"auto_resume,omitempty"`
}

// Timeout returns the clocks of a sandbox.
func (c *Client) Timeout(ctx context.Context, id string) (*Clocks, error) {
	return c.clocks(ctx, http.MethodGet, id, nil)
}

// SetTimeout changes the clocks of a sandbox and returns them all.
func (c *Client) SetTimeout(ctx context.Context, id string, in TimeoutRequest) (*Clocks, error) {
	return c.clocks(ctx, http.MethodPatch, id, in)
}

func (c *Client) clocks(ctx context.Context, method, id string, in any) (*Clocks, error) {
	path, err := sandboxPath(id, "/timeout")
	if err != nil {
		return nil, err
	}
	out := new(Clocks)
	if _, err := c.call(ctx, request{method: method, path: path}, in, out); err != nil {
		return nil, err
	}
	return out, nil
}
