package e2b

import (
	"cmp"
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// headerNext names the next page. It is sent only if there is one.
const headerNext = "X-Next-Token"

// listQuery holds the parameters of a list.
type listQuery struct {
	states   []string
	metadata map[string]string
	template string
	// from is the earliest time of creation; zero is any.
	from      time.Time
	ascending bool
	limit     int
	// after is the place behind which the page begins; nil is the start.
	after *place
}

// maxRunning is the largest number of sandboxes in the list of old clients, which has no
// pages: the newest.
const maxRunning = 5000

// place is a position in the order of lists: time of creation, then id.
type place struct {
	at time.Time
	id sandbox.ID
	// cursor is that of the store's page in which the place is, so that the next page
	// begins to read there; empty is the first page.
	cursor string
}

func (s *server) listSandboxes(w http.ResponseWriter, r *http.Request) error {
	q, err := readList(r.URL.Query())
	if err != nil {
		return err
	}
	rows, next, err := s.selectRows(r.Context(), q)
	if err != nil {
		return err
	}
	if next != nil {
		w.Header().Set(headerNext, next.token())
	}
	writeListed(w, rows)
	return nil
}

// listRunning is the list of old clients: the running sandboxes, in one page.
func (s *server) listRunning(w http.ResponseWriter, r *http.Request) error {
	metadata, err := readMetadata(r.URL.Query().Get("metadata"))
	if err != nil {
		return err
	}
	rows, _, err := s.selectRows(r.Context(), listQuery{states: []string{stateRunning}, metadata: metadata, limit: maxRunning})
	if err != nil {
		return err
	}
	writeListed(w, rows)
	return nil
}

func writeListed(w http.ResponseWriter, rows []control.Sandbox) {
	out := make([]listedJSON, len(rows))
	for i, row := range rows {
		out[i] = listedOf(row)
	}
	writeJSON(w, http.StatusOK, out)
}

func readList(v url.Values) (q listQuery, err error) {
	q.states = []string{stateRunning, statePaused}
	if given := v.Get("state"); given != "" {
		q.states = strings.Split(given, ",")
	}
	for _, state := range q.states {
		if state != stateRunning && state != statePaused {
			return q, invalid("state must be running or paused, or both with a comma")
		}
	}
	if q.limit, err = limitOf(v); err != nil {
		return q, err
	}
	if q.metadata, err = readMetadata(v.Get("metadata")); err != nil {
		return q, err
	}
	if q.template = v.Get("template"); strings.Contains(q.template, ":") {
		return q, invalid("template must be a name or an id without a tag")
	}
	switch order := v.Get("order"); order {
	case "", "desc", "asc":
		q.ascending = order == "asc"
	default:
		return q, invalid("order must be asc or desc")
	}
	if given := v.Get("startedAfter"); given != "" {
		if q.from, err = time.Parse(time.RFC3339Nano, given); err != nil {
			return q, invalid("startedAfter must be a time such as 2026-01-02T03:04:05Z")
		}
	}
	if token := v.Get("nextToken"); token != "" {
		if q.after, err = parsePlace(token); err != nil {
			return q, err
		}
	}
	return q, nil
}

// readMetadata decodes a filter. Clients encode each key and value, then the whole as a
// form, then that as a query value, which has been decoded already.
func readMetadata(text string) (map[string]string, error) {
	out := make(map[string]string)
	if text == "" {
		return out, nil
	}
	wrong := invalid("metadata must be pairs key=value with an & between them, percent-encoded")
	for pair := range strings.SplitSeq(text, "&") {
		key, value, found := strings.Cut(pair, "=")
		if !found {
			return nil, wrong
		}
		for _, part := range []*string{&key, &value} {
			once, err := url.QueryUnescape(*part)
			if err != nil {
				return nil, wrong
			}
			if *part, err = url.PathUnescape(once); err != nil {
				return nil, wrong
			}
		}
		out[key] = value
	}
	return out, nil
}

// selectRows returns the rows of a page, and the place behind it if there is a next
// page. It holds few more rows than the page has. The store lists the newest first: a
// page in descending order reads on from its place, and one in ascending order reads all
// that is newer than its place.
func (s *server) selectRows(ctx context.Context, q listQuery) (page []control.Sandbox, next *place, err error) {
	if q.ascending {
		return s.oldest(ctx, q)
	}
	cursor := "" // of the last row of page
	err = s.scan(ctx, q, func(row control.Sandbox, of string) bool {
		if len(page) == q.limit {
			next = placeOf(page[q.limit-1], cursor)
			return false
		}
		page, cursor = append(page, row), of
		return true
	})
	return page, next, err
}

// oldest is selectRows in ascending order.
func (s *server) oldest(ctx context.Context, q listQuery) (page []control.Sandbox, next *place, err error) {
	keep := q.limit + 1
	err = s.scan(ctx, q, func(row control.Sandbox, _ string) bool {
		if page = append(page, row); len(page) == 2*keep {
			page = append(page[:0], page[keep:]...)
		}
		return true
	})
	slices.Reverse(page)
	if len(page) > q.limit {
		page = page[:q.limit]
		next = placeOf(page[q.limit-1], "")
	}
	return page, next, err
}

// scan hands the rows that q selects to each, the newest first, with the cursor of their
// page of the store, until each reports false.
func (s *server) scan(ctx context.Context, q listQuery, each func(row control.Sandbox, cursor string) bool) error {
	f := control.Filter{
		Statuses: []sandbox.Status{sandbox.StatusRunning, sandbox.StatusPaused}, Metadata: q.metadata, Limit: maxPage,
	}
	if q.after != nil && !q.ascending {
		f.Cursor = q.after.cursor
	}
	for {
		rows, following, err := s.Sandboxes.List(ctx, f)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if q.selects(row) && !each(row, f.Cursor) {
				return nil
			}
		}
		if f.Cursor = following; following == "" || q.passed(rows) {
			return nil
		}
	}
}

// passed reports whether no row after rows can be selected.
func (q listQuery) passed(rows []control.Sandbox) bool {
	if len(rows) == 0 {
		return false
	}
	last := rows[len(rows)-1]
	return last.CreatedAt.Before(q.from) || q.ascending && q.after != nil && q.after.compare(last) >= 0
}

func (q listQuery) selects(row control.Sandbox) bool {
	switch {
	case !slices.Contains(q.states, stateOf(row)), row.CreatedAt.Before(q.from):
		return false
	case q.template != "" && q.template != templateIDOf(row) && q.template != templateNameOf(row):
		return false
	case q.after == nil:
		return true
	}
	if q.ascending {
		return q.after.compare(row) < 0
	}
	return q.after.compare(row) > 0
}

// placeOf returns the place of a row in the store's page with cursor.
func placeOf(row control.Sandbox, cursor string) *place {
	return &place{row.CreatedAt, row.ID, cursor}
}

// compare compares p with the place of row.
func (p place) compare(row control.Sandbox) int {
	return cmp.Or(p.at.Compare(row.CreatedAt), strings.Compare(string(p.id), string(row.ID)))
}

// token returns p as text. PostgreSQL keeps microseconds.
func (p place) token() string {
	text := strconv.FormatInt(p.at.UnixMicro(), 10) + " " + string(p.id)
	if p.cursor != "" {
		text += " " + p.cursor
	}
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

func parsePlace(token string) (*place, error) {
	text, err := base64.RawURLEncoding.DecodeString(token)
	micros, rest, found := strings.Cut(string(text), " ")
	id, cursor, _ := strings.Cut(rest, " ")
	n, numErr := strconv.ParseInt(micros, 10, 64)
	parsed, idErr := sandbox.ParseID(id)
	if err != nil || !found || numErr != nil || idErr != nil {
		return nil, invalid("nextToken must be one that an earlier page returned")
	}
	return &place{time.UnixMicro(n), parsed, cursor}, nil
}
