package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// ListOptions narrows a list. The zero value lists everything.
type ListOptions struct {
	// Status lists the statuses wanted; empty means all.
	Status []string
	// Template is the template wanted; empty means all.
	Template string
	// Name is the exact name wanted; empty means all.
	Name string
	// Metadata are entries that a sandbox must have, with these values.
	Metadata map[string]string
	// Limit is the size of a page, at most 1000. Zero is one page with
	// everything for List, and the client's choice for All.
	Limit int
	// Cursor is the NextCursor of the page before; empty is the first page.
	Cursor string
}

// Page is part of a list, newest first.
type Page struct {
	Sandboxes []Sandbox
	// NextCursor leads to the next page; it is empty on the last.
	NextCursor string
}

// pageSize is the number of sandboxes that All asks for at a time.
const pageSize = 200

// List returns one page of sandboxes.
func (c *Client) List(ctx context.Context, opts ListOptions) (*Page, error) {
	page := new(Page)
	header, err := c.call(ctx, request{method: http.MethodGet, path: "/v1/sandboxes", query: opts.query()}, nil, &page.Sandboxes)
	if err != nil {
		return nil, err
	}
	page.NextCursor = header.Get("X-Next-Cursor")
	return page, nil
}

// All goes through the sandboxes of all pages from opts.Cursor on. An error
// ends it and comes with a zero Sandbox.
func (c *Client) All(ctx context.Context, opts ListOptions) iter.Seq2[Sandbox, error] {
	if opts.Limit == 0 {
		opts.Limit = pageSize
	}
	return func(yield func(Sandbox, error) bool) {
		next := opts
		for {
			page, err := c.List(ctx, next)
			if err != nil {
				yield(Sandbox{}, err)
				return
			}
			for _, sb := range page.Sandboxes {
				if !yield(sb, nil) {
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

func (o ListOptions) query() url.Values {
	q := url.Values{}
	if len(o.Status) > 0 {
		q.Set("status", strings.Join(o.Status, ","))
	}
	if o.Template != "" {
		q.Set("template", o.Template)
	}
	if o.Name != "" {
		q.Set("name", o.Name)
	}
	for k, v := range o.Metadata {
		q.Set("metadata."+k, v)
	}
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	if o.Cursor != "" {
		q.Set("cursor", o.Cursor)
	}
	return q
}
