package client

import (
	"context"
	"net/http"

	"github.com/wrenn-dev/wrenn/api/types"
)

// Actions for a sandbox with an expired clock.
const (
	OnTimeoutDestroy = "destroy"
	OnTimeoutPause   = "pause"
)

// Clocks are the three clocks of a sandbox. They are independent of each other.
type Clocks = types.Clocks

// TimeoutRequest selects the clocks to change. A nil field leaves the value
// unchanged.
type TimeoutRequest = types.TimeoutRequest

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
