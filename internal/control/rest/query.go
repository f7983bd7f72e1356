package rest

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

const (
	maxListLimit = 1000
	maxCursor    = 512
)

// query passes requests on to next if their query string has known parameters
// only. A name that ends in '*' stands for all names with that prefix. Without
// the check, a mistyped filter or owner would be ignored.
func (s *server) query(next http.HandlerFunc, known ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := readQuery(r)
		for name := range q {
			if err == nil && !knownParam(name, known) {
				err = fault.New(fault.Invalid, "unknown_parameter", "unknown query parameter %q; this operation takes %s",
					name, cmp.Or(strings.Join(known, ", "), "none"))
			}
		}
		if err != nil {
			s.fail(w, r, err)
			return
		}
		next(w, r)
	}
}

func knownParam(name string, known []string) bool {
	return slices.ContainsFunc(known, func(k string) bool {
		prefix, open := strings.CutSuffix(k, "*")
		return name == k || open && strings.HasPrefix(name, prefix)
	})
}

// readQuery parses the query string. net/url's own Query drops pairs that it cannot
// read, and could so drop a filter.
func readQuery(r *http.Request) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "invalid_query", "the query string cannot be parsed")
	}
	return q, nil
}

// one returns the value of a parameter that may be given once; "" when absent.
func one(q url.Values, name string) (string, error) {
	if len(q[name]) > 1 {
		return "", fault.New(fault.Invalid, "invalid_query", "the query parameter %s is given twice", name)
	}
	return q.Get(name), nil
}

// readFilter reads the parameters of a list.
func readFilter(r *http.Request) (control.Filter, error) {
	var f control.Filter
	q, err := readQuery(r)
	if err != nil {
		return f, err
	}
	if f.Statuses, err = statuses(q["status"]); err != nil {
		return f, err
	}
	if f.Template, err = one(q, "template"); err != nil {
		return f, err
	}
	if q.Has("template") && !validTemplateReference(f.Template) {
		return f, fault.New(fault.Invalid, "invalid_template", "template is not the name of a template")
	}
	if f.Name, err = nameIn(q); err != nil {
		return f, err
	}
	if f.Metadata, err = metadataIn(q); err != nil {
		return f, err
	}
	f.Limit, f.Cursor, err = pageIn(q)
	return f, err
}

// nameIn returns the name by which a list of sandboxes is filtered.
func nameIn(q url.Values) (string, error) {
	name, err := one(q, "name")
	if err != nil {
		return "", err
	}
	if err := sandbox.ValidateName(name); err != nil || q.Has("name") && name == "" {
		return "", fault.Wrap(err, fault.Invalid, "invalid_name", "name is not a valid name of a sandbox")
	}
	return name, nil
}

// metadataParam is the prefix of query parameters that filter by metadata:
// metadata.KEY=VALUE.
const metadataParam = "metadata."

// metadataIn returns the metadata entries by which a list of sandboxes is
// filtered; nil means none.
func metadataIn(q url.Values) (map[string]string, error) {
	var out map[string]string
	for name := range q {
		key, ok := strings.CutPrefix(name, metadataParam)
		if !ok {
			continue
		}
		value, err := one(q, name)
		if err != nil {
			return nil, err
		}
		if out == nil {
			out = make(map[string]string)
		}
		out[key] = value
	}
	return out, control.ValidateMetadata(out)
}

// readSnapshotFilter reads the parameters of a list of snapshots.
func readSnapshotFilter(r *http.Request) (control.SnapshotFilter, error) {
	var f control.SnapshotFilter
	q, err := readQuery(r)
	if err != nil {
		return f, err
	}
	of, err := one(q, "sandbox_id")
	if err != nil {
		return f, err
	}
	if q.Has("sandbox_id") {
		if f.SandboxID, err = sandbox.ParseID(of); err != nil {
			return f, fault.New(fault.Invalid, "invalid_sandbox_id", "sandbox_id is not the id of a sandbox")
		}
	}
	if f.Name, err = one(q, "name"); err != nil {
		return f, err
	}
	if q.Has("name") && f.Name == "" {
		return f, fault.New(fault.Invalid, "invalid_name", "name must not be empty; leave it out for all snapshots")
	}
	if err := control.ValidateSnapshotName(f.Name); err != nil {
		return f, err
	}
	f.Limit, f.Cursor, err = pageIn(q)
	return f, err
}

// pageIn reads the parameters that select a page of a list.
func pageIn(q url.Values) (limit int, cursor string, err error) {
	if limit, err = limitIn(q); err != nil {
		return 0, "", err
	}
	if cursor, err = one(q, "cursor"); err != nil {
		return 0, "", err
	}
	if len(cursor) > maxCursor {
		return 0, "", fault.New(fault.Invalid, "invalid_cursor", "cursor is not one that a list returned")
	}
	return limit, cursor, nil
}

// limitIn returns the largest number of entries of a page; 0 when absent.
func limitIn(q url.Values) (int, error) {
	given, err := one(q, "limit")
	if err != nil || !q.Has("limit") {
		return 0, err
	}
	limit, err := strconv.Atoi(given)
	if err != nil || limit < 1 || limit > maxListLimit {
		return 0, fault.New(fault.Invalid, "invalid_limit", "limit must be from 1 to %d", maxListLimit)
	}
	return limit, nil
}

// statuses reads statuses that are given one by one, or several with commas.
func statuses(given []string) ([]sandbox.Status, error) {
	var out []sandbox.Status
	for _, g := range given {
		for _, name := range strings.Split(g, ",") {
			st := sandbox.Status(name)
			if len(sandbox.StatesOf(st)) == 0 {
				return nil, fault.New(fault.Invalid, "invalid_status",
					"status must be one of pending, running, paused, stopped, error")
			}
			out = append(out, st)
		}
	}
	return out, nil
}

// linkNext sets the headers that lead to the next page, unless this is the
// last.
func linkNext(w http.ResponseWriter, r *http.Request, cursor string) {
	if cursor == "" {
		return
	}
	w.Header().Set("X-Next-Cursor", cursor)
	w.Header().Set("Link", nextLink(r, cursor))
}

// nextLink is the Link header (RFC 8288) of the page after r's.
func nextLink(r *http.Request, cursor string) string {
	q := r.URL.Query()
	q.Set("cursor", cursor)
	next := url.URL{Path: r.URL.Path, RawQuery: q.Encode()}
	return "<" + next.String() + `>; rel="next"`
}
