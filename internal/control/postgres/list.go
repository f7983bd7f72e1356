package postgres

import (
	"context"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/db"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// maxList bounds Filter.Limit, so that limit + 1 stays a valid LIMIT.
const maxList = 1 << 20

// listParams turns a filter into a query. It asks for one row more than the
// limit, to learn whether there is a next page.
func listParams(f control.Filter) (db.ListSandboxesParams, error) {
	page, err := pageOf(f.Limit, f.Cursor)
	p := db.ListSandboxesParams{MaxRows: page.rows, BeforeCreated: page.beforeCreated, BeforeID: page.beforeID}
	if err != nil {
		return p, err
	}
	for _, status := range f.Statuses {
		states := sandbox.StatesOf(status)
		if len(states) == 0 {
			return p, fault.New(fault.Invalid, "invalid_status", "there is no such status")
		}
		for _, s := range states {
			p.States = append(p.States, string(s))
		}
	}
	p.Template, p.Name = optional(f.Template), optional(f.Name)
	if len(f.Metadata) > 0 {
		p.Metadata, err = metadataJSON(f.Metadata)
	}
	return p, err
}

// page is a list's limit and cursor in SQL; nil is no bound.
type page struct {
	rows          *int32
	beforeCreated *time.Time
	beforeID      *string
}

func pageOf(limit int, cursor string) (page, error) {
	var p page
	if limit < 0 || limit > maxList {
		return p, fault.New(fault.Invalid, "invalid_limit", "limit must be from 1 to %d", maxList)
	}
	if limit > 0 {
		n := int32(limit + 1)
		p.rows = &n
	}
	if cursor == "" {
		return p, nil
	}
	created, id, ok := parseCursor(cursor)
	if !ok {
		return p, fault.New(fault.Invalid, "invalid_cursor", "cursor must be one that an earlier page returned")
	}
	p.beforeCreated, p.beforeID = &created, &id
	return p, nil
}

// firstRows converts the stored rows of a list with convert, and returns the cursor of
// the next page, which cursor makes of the last row, or "". The query has asked for
// one row beyond limit; a limit of zero is none.
func firstRows[Stored, Row any](stored []Stored, limit int, convert func([]Stored) ([]Row, error), cursor func(Row) string) ([]Row, string, error) {
	more := limit > 0 && len(stored) > limit
	if more {
		stored = stored[:limit]
	}
	rows, err := convert(stored)
	if err != nil || !more {
		return rows, "", err
	}
	return rows, cursor(rows[len(rows)-1]), nil
}

// cursorAfter names the place behind a row in the order of lists. It holds the
// sort key itself, so a page is right also if rows have come and gone meanwhile.
// PostgreSQL keeps microseconds.
func cursorAfter(created time.Time, id string) string {
	key := strconv.FormatInt(created.UnixMicro(), 10) + " " + id
	return base64.RawURLEncoding.EncodeToString([]byte(key))
}

func parseCursor(cursor string) (created time.Time, id string, ok bool) {
	key, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return time.Time{}, "", false
	}
	micros, id, found := strings.Cut(string(key), " ")
	n, err := strconv.ParseInt(micros, 10, 64)
	if _, idErr := sandbox.ParseID(id); err != nil || idErr != nil || !found || n < 0 || n > maxMicros {
		return time.Time{}, "", false
	}
	return time.UnixMicro(n).UTC(), id, true
}

// maxMicros is the end of the year 9999, well inside a timestamptz.
const maxMicros = 253402300799999999

// Machines implements control.Store.
func (s *Store) Machines(ctx context.Context, build string) ([]control.Sandbox, error) {
	stored, err := s.q.Machines(ctx, build)
	if err != nil {
		return nil, faultOf(err)
	}
	return fromRows(stored)
}
