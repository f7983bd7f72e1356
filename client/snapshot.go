package client

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/api/types"
)

// The statuses of a snapshot.
const (
	SnapshotCreating = "creating"
	SnapshotReady    = "ready"
	SnapshotDeleting = "deleting" // its host has still to confirm
	SnapshotError    = "error"    // its host does not have it
)

// Snapshot is the saved memory, processes and disk of a sandbox, or its disk alone.
type Snapshot = types.Snapshot

// SnapshotRequest describes a snapshot. All fields may be empty.
type SnapshotRequest struct {
	Name     string            `json:"name,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	// Force saves memory and disk even if the guest does not answer.
	Force bool `json:"force,omitempty"`
	// Memory is false for the disk alone: sandboxes that are created from the snapshot boot
	// from it. Nil means true. False and Force exclude each other.
	Memory *bool `json:"memory,omitempty"`
}

// CreateSnapshot takes a snapshot of a running or paused sandbox and returns
// when it is durable. It stays until it is deleted.
func (c *Client) CreateSnapshot(ctx context.Context, sandboxID string, in SnapshotRequest) (*Snapshot, error) {
	path, err := sandboxPath(sandboxID, "/snapshots")
	if err != nil {
		return nil, err
	}
	return c.snapshot(ctx, request{method: http.MethodPost, path: path}, in)
}

// GetSnapshot returns a snapshot.
func (c *Client) GetSnapshot(ctx context.Context, id string) (*Snapshot, error) {
	path, err := snapshotPath(id, "")
	if err != nil {
		return nil, err
	}
	return c.snapshot(ctx, request{method: http.MethodGet, path: path}, nil)
}

// DeleteSnapshot deletes a snapshot. One that is a template is refused.
func (c *Client) DeleteSnapshot(ctx context.Context, id string) error {
	return c.deleteOf(ctx, id, "")
}

// TemplateFromSnapshot gives a snapshot a name that creates can use as their
// template.
func (c *Client) TemplateFromSnapshot(ctx context.Context, id, name string) (*Snapshot, error) {
	path, err := snapshotPath(id, "/template")
	if err != nil {
		return nil, err
	}
	return c.snapshot(ctx, request{method: http.MethodPost, path: path}, templateRequest{name})
}

// RemoveTemplate removes that name; the snapshot stays.
func (c *Client) RemoveTemplate(ctx context.Context, id string) error {
	return c.deleteOf(ctx, id, "/template")
}

type templateRequest struct {
	Name string `json:"name"`
}

// SnapshotOptions narrows a list of snapshots. The zero value lists everything.
type SnapshotOptions struct {
	// SandboxID and Name filter the list; empty means all.
	SandboxID, Name string
	// Limit is the size of a page, at most 1000. Zero is one page with
	// everything for ListSnapshots, and the client's choice for AllSnapshots.
	Limit int
	// Cursor is the NextCursor of the page before; empty is the first page.
	Cursor string
}

// SnapshotPage is part of a list of snapshots, newest first.
type SnapshotPage struct {
	Snapshots []Snapshot
	// NextCursor leads to the next page; it is empty on the last.
	NextCursor string
}

// ListSnapshots returns one page of snapshots.
func (c *Client) ListSnapshots(ctx context.Context, opts SnapshotOptions) (*SnapshotPage, error) {
	return c.snapshotPage(ctx, "/v1/snapshots", opts)
}

// ListSnapshotsOf returns one page of the snapshots of a sandbox. A sandbox
// that is not known and has none is an *Error with the code
// "sandbox_not_found". The SandboxID and Name in opts must be empty.
func (c *Client) ListSnapshotsOf(ctx context.Context, sandboxID string, opts SnapshotOptions) (*SnapshotPage, error) {
	path, err := sandboxPath(sandboxID, "/snapshots")
	if err != nil {
		return nil, err
	}
	return c.snapshotPage(ctx, path, opts)
}

// AllSnapshots goes through the snapshots of all pages from opts.Cursor on. An
// error ends it and comes with a zero Snapshot.
func (c *Client) AllSnapshots(ctx context.Context, opts SnapshotOptions) iter.Seq2[Snapshot, error] {
	if opts.Limit == 0 {
		opts.Limit = pageSize
	}
	return func(yield func(Snapshot, error) bool) {
		next := opts
		for {
			page, err := c.ListSnapshots(ctx, next)
			if err != nil {
				yield(Snapshot{}, err)
				return
			}
			for _, s := range page.Snapshots {
				if !yield(s, nil) {
					return
				}
			}
			if page.NextCursor == "" {
				return
			}
			next.Cursor = page.NextCursor
		}
	}
}

func (c *Client) snapshotPage(ctx context.Context, path string, opts SnapshotOptions) (*SnapshotPage, error) {
	page := new(SnapshotPage)
	header, err := c.call(ctx, request{method: http.MethodGet, path: path, query: opts.query()}, nil, &page.Snapshots)
	if err != nil {
		return nil, err
	}
	page.NextCursor = header.Get("X-Next-Cursor")
	return page, nil
}

func (o SnapshotOptions) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"sandbox_id": o.SandboxID, "name": o.Name, "cursor": o.Cursor} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	return q
}

func (c *Client) snapshot(ctx context.Context, r request, in any) (*Snapshot, error) {
	out := new(Snapshot)
	if _, err := c.call(ctx, r, in, out); err != nil {
		return nil, err
	}
	return out, nil
}

func (c *Client) deleteOf(ctx context.Context, id, rest string) error {
	path, err := snapshotPath(id, rest)
	if err != nil {
		return err
	}
	_, err = c.call(ctx, request{method: http.MethodDelete, path: path}, nil, nil)
	return err
}

// snapshotPath is sandboxPath for snapshots.
func snapshotPath(id, rest string) (string, error) {
	if id == "" || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return "", &Error{Status: http.StatusNotFound, Code: "snapshot_not_found",
			Message: fmt.Sprintf("%q is not a snapshot id: ids are lower-case letters and digits", id)}
	}
	return "/v1/snapshots/" + id + rest, nil
}
