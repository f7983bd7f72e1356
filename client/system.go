package client

import (
	"context"
	"io"
	"net/http"

	"github.com/wrenn-dev/wrenn/api/types"
)

// Host is a machine that runs sandboxes.
type Host = types.Host

// HostRuntime is a runtime that a host offers.
type HostRuntime = types.HostRuntime

// HostLimits bound one sandbox on a host.
type HostLimits = types.HostLimits

// Pool is one kind of warm clone that a host keeps.
type Pool = types.Pool

// Garbage lists unreferenced files on hosts.
type Garbage = types.GarbageResponse

// GarbageItem is one piece of garbage.
type GarbageItem = types.GarbageItem

// GCRequest selects between a dry run and a collection of garbage.
type GCRequest struct {
	// DryRun only lists the files.
	DryRun bool `json:"dry_run"`
}

// GC deletes unreferenced files on all hosts. With a dry run it only lists them.
func (c *Client) GC(ctx context.Context, in GCRequest) (*Garbage, error) {
	out := new(Garbage)
	if _, err := c.call(ctx, request{method: http.MethodPost, path: "/v1/gc"}, in, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Health is the state and version of the server.
type Health = types.Health

// Hosts lists the hosts with their capacity and features.
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
