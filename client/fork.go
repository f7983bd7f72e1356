package client

import (
	"context"
	"net/http"

	"github.com/wrenn-dev/wrenn/api/types"
)

// ForkRequest selects the number and settings of a sandbox's copies. The other
// settings are those of the parent.
type ForkRequest struct {
	// Count is from 1 to 100; 0 is one copy.
	Count int `json:"count,omitempty"`
	// Env is added to the environment of the copies.
	Env map[string]string `json:"env,omitempty"`
	// Metadata is added to that of the parent; equal keys are replaced.
	Metadata    map[string]string `json:"metadata,omitempty"`
	TimeoutSec  *int              `json:"timeout_sec,omitempty"`
	LifetimeSec *int              `json:"lifetime_sec,omitempty"`
	OnTimeout   *string           `json:"on_timeout,omitempty"`
	AutoResume  *bool             `json:"auto_resume,omitempty"`
	// Force copies memory and disk of a guest that does not answer without its
	// help. A copy whose guest does not answer either fails.
	Force bool `json:"force,omitempty"`
}

// Forked is the result of a fork: at least one copy runs.
type Forked = types.ForkResponse

// FailedFork is a copy that did not start.
type FailedFork = types.FailedFork

// Fork copies a running or paused sandbox with its memory, processes and disk,
// and returns when the copies run. The sandbox is stopped during the pause
// window only.
func (c *Client) Fork(ctx context.Context, id string, in ForkRequest) (*Forked, error) {
	path, err := sandboxPath(id, "/fork")
	if err != nil {
		return nil, err
	}
	out := new(Forked)
	if _, err := c.call(ctx, request{method: http.MethodPost, path: path}, in, out); err != nil {
		return nil, err
	}
	return out, nil
}
