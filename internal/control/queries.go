package control

import (
	"context"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// queries is the use cases that only read sandboxes.
type queries struct {
	store   queryStore
	healths *healths
}

// queryStore is the part of [Store] that queries needs.
type queryStore interface {
	sandboxReader
	List(ctx context.Context, f Filter) ([]Sandbox, string, error)
}

// Get implements Sandboxes. A sandbox that serves a build is NotFound.
func (q *queries) Get(ctx context.Context, id sandbox.ID) (Sandbox, error) {
	row, err := q.store.Get(ctx, id)
	if err == nil && row.BuildID != "" {
		return Sandbox{}, fault.New(fault.NotFound, ReasonSandboxNotFound, "there is no sandbox with the id %s", id)
	}
	return q.healths.addTo(row), err
}

// List implements Sandboxes.
func (q *queries) List(ctx context.Context, f Filter) ([]Sandbox, string, error) {
	rows, next, err := q.store.List(ctx, f)
	for i, row := range rows {
		rows[i] = q.healths.addTo(row)
	}
	return rows, next, err
}
