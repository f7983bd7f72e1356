package e2b

import (
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

// place is a position in the order of lists: time of creation, then id.
type place struct {
	at time.Time
	id sandbox.ID
}

func (s *server) listSandboxes(w http.ResponseWriter, r *http.Request) error {
	q, err := readList(r.URL.Query())
	if err != nil {
		return err
	}
	rows, err := s.selectRows(r.Context(), q)
	if err != nil {
		return err
	}
	if len(rows) > q.limit {
		rows = rows[:q.limit]
		last := rows[len(rows)-1]
		w.Header().Set(headerNext, place{last.CreatedAt, last.ID}.token())
	}
	writeListed(w, rows)
	return nil
}

// listRunning is the list of old clients: what runs, in one page.
func (s *server) listRunning(w http.ResponseWriter, r *http.Request) error {
	metadata, err := readMetadata(r.URL.Query().Get("metadata"))
	if err != nil {
		return err
	}
	rows, err := s.selectRows(r.Context(), listQuery{states: []string{stateRunning}, metadata: metadata})
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

// selectRows returns the rows of a page and one more if there is a next page, or all
// rows if q has no limit. A limited list in descending order reads no further than that.
func (s *server) selectRows(ctx context.Context, q listQuery) ([]control.Sandbox, error) {
	f := control.Filter{
		Statuses: []sandbox.Status{sandbox.StatusRunning, sandbox.StatusPaused}, Metadata: q.metadata, Limit: maxPage,
	}
	var out []control.Sandbox
	for {
		rows, next, err := s.Sandboxes.List(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			if q.selects(row) {
				out = append(out, row)
			}
		}
		full := q.limit > 0 && !q.ascending && len(out) > q.limit
		older := len(rows) > 0 && rows[len(rows)-1].CreatedAt.Before(q.from)
		if f.Cursor = next; next == "" || full || older {
			break
		}
	}
	if q.ascending {
		slices.Reverse(out)
	}
	return out, nil
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
	order := row.CreatedAt.Compare(q.after.at)
	if order == 0 {
		order = strings.Compare(string(row.ID), string(q.after.id))
	}
	if q.ascending {
		return order > 0
	}
	return order < 0
}

// token returns p as text. PostgreSQL keeps microseconds.
func (p place) token() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(p.at.UnixMicro(), 10) + " " + string(p.id)))
}

func parsePlace(token string) (*place, error) {
	text, err := base64.RawURLEncoding.DecodeString(token)
	micros, id, found := strings.Cut(string(text), " ")
	n, numErr := strconv.ParseInt(micros, 10, 64)
	parsed, idErr := sandbox.ParseID(id)
	if err != nil || !found || numErr != nil || idErr != nil {
		return nil, invalid("nextToken must be one that an earlier page returned")
	}
	return &place{time.UnixMicro(n), parsed}, nil
}
