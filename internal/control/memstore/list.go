package memstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// maxList bounds the limit of a list.
const maxList = 1 << 20

// List implements control.Store.
func (s *Store) List(_ context.Context, f control.Filter) ([]control.Sandbox, string, error) {
	var states []sandbox.State
	for _, status := range f.Statuses {
		of := sandbox.StatesOf(status)
		if len(of) == 0 {
			return nil, "", fault.New(fault.Invalid, "invalid_status", "there is no such status")
		}
		states = append(states, of...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []control.Sandbox{}
	for _, row := range s.rows {
		if matches(row, f) && (states == nil || slices.Contains(states, row.State)) {
			all = append(all, copyOf(row))
		}
	}
	return page(all, f.Limit, f.Cursor, func(row control.Sandbox) (time.Time, string) { return row.CreatedAt, string(row.ID) })
}

func matches(row control.Sandbox, f control.Filter) bool {
	for k, v := range f.Metadata {
		if have, ok := row.Metadata[k]; !ok || have != v {
			return false
		}
	}
	return row.BuildID == "" && (f.Template == "" || isOf(row.Spec, f.Template)) && (f.Name == "" || row.Name == f.Name)
}

// isOf reports whether a sandbox with the spec came from the template: an image, an id, or a
// name with or without the tag that was given.
func isOf(spec sandbox.Spec, template string) bool {
	if spec.TemplateID == "" {
		return spec.Template == template
	}
	name, _, _ := strings.Cut(spec.TemplateRef, ":")
	return spec.TemplateID == template || spec.TemplateRef == template || name == template
}

// ListSnapshots implements control.Store.
func (s *Store) ListSnapshots(_ context.Context, f control.SnapshotFilter) ([]control.Snapshot, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []control.Snapshot{}
	for _, row := range s.snaps {
		if row.Kind == control.KindNamed && (f.SandboxID == "" || row.Of.ID == f.SandboxID) && (f.Name == "" || row.Name == f.Name) {
			all = append(all, copySnapshot(row))
		}
	}
	return page(all, f.Limit, f.Cursor, func(row control.Snapshot) (time.Time, string) { return row.CreatedAt, string(row.ID) })
}

// page sorts rows newest first, skips those up to cursor, and cuts at limit.
func page[T any](rows []T, limit int, cursor string, key func(T) (time.Time, string)) ([]T, string, error) {
	if limit < 0 || limit > maxList {
		return nil, "", fault.New(fault.Invalid, "invalid_limit", "limit must be from 1 to %d", maxList)
	}
	slices.SortFunc(rows, func(a, b T) int {
		at, aid := key(a)
		bt, bid := key(b)
		return cmp.Or(bt.Compare(at), cmp.Compare(bid, aid))
	})
	if cursor != "" {
		var micros int64
		var after string
		if n, err := fmt.Sscanf(cursor, "%d-%s", &micros, &after); n != 2 || err != nil {
			return nil, "", fault.New(fault.Invalid, "invalid_cursor", "cursor must be one that an earlier page returned")
		}
		rows = slices.DeleteFunc(rows, func(row T) bool {
			t, id := key(row)
			return cmp.Or(t.Compare(time.UnixMicro(micros)), cmp.Compare(id, after)) >= 0
		})
	}
	if limit == 0 || len(rows) <= limit {
		return rows, "", nil
	}
	t, id := key(rows[limit-1])
	return rows[:limit], fmt.Sprintf("%d-%s", t.UnixMicro(), id), nil
}
