package client

import (
	"context"
	"net/http"

	"github.com/wrenn-dev/wrenn/api/types"
)

// Network holds the limits of outgoing traffic of a sandbox.
type Network = types.Network

// NetworkRequest holds new limits. An empty list takes the old one away.
type NetworkRequest = types.NetworkRequest

// Network returns the limits of outgoing traffic of a sandbox.
func (c *Client) Network(ctx context.Context, id string) (*Network, error) {
	return c.network(ctx, http.MethodGet, id, nil)
}

// SetNetwork replaces the limits of outgoing traffic of a sandbox and returns them. They
// hold when it returns, also for connections that the sandbox has open.
func (c *Client) SetNetwork(ctx context.Context, id string, in NetworkRequest) (*Network, error) {
	return c.network(ctx, http.MethodPut, id, in)
}

func (c *Client) network(ctx context.Context, method, id string, in any) (*Network, error) {
	path, err := sandboxPath(id, "/network")
	if err != nil {
		return nil, err
	}
	out := new(Network)
	if _, err := c.call(ctx, request{method: method, path: path}, in, out); err != nil {
		return nil, err
	}
	return out, nil
}
