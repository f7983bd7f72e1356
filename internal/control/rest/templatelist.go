package rest

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// listTemplates answers with templates of all three kinds.
func (s *server) listTemplates(w http.ResponseWriter, r *http.Request) {
	q, err := readQuery(r)
	var limit int
	var cursor string
	if err == nil {
		limit, cursor, err = pageIn(q)
	}
	var list []types.Template
	var next string
	if err == nil {
		list, next, err = s.templatePage(r.Context(), limit, cursor)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	linkNext(w, r, next)
	writeJSON(w, http.StatusOK, list)
}

// templateSource is one kind of template as a list with pages. Its cursors become those
// of the whole list with its prefix.
type templateSource struct {
	prefix string
	// page returns at most limit templates, and the cursor of the next page. A page may
	// be empty before the end.
	page func(ctx context.Context, limit int, cursor string) ([]types.Template, string, error)
}

// templatePage returns one page of the list of all templates: images, built ones, and
// snapshots. A limit of 0 is the whole list.
func (s *server) templatePage(ctx context.Context, limit int, cursor string) ([]types.Template, string, error) {
	sources := []templateSource{{"i", s.imagePage}, {"b", s.builtPage}, {"s", s.snapshotPage}}
	if cursor != "" {
		prefix, rest, _ := strings.Cut(cursor, ".")
		at := slices.IndexFunc(sources, func(src templateSource) bool { return src.prefix == prefix })
		if at < 0 {
			return nil, "", errCursor
		}
		sources, cursor = sources[at:], rest
	}
	out := []types.Template{}
	for i, src := range sources {
		for {
			page, next, err := src.page(ctx, roomIn(limit, len(out)), cursor)
			if err != nil {
				return nil, "", err
			}
			out, cursor = append(out, page...), next
			full := limit > 0 && len(out) >= limit
			switch {
			case full && next != "":
				return out, src.prefix + "." + next, nil
			case full && i+1 < len(sources):
				return out, sources[i+1].prefix + ".", nil
			}
			if next == "" {
				break
			}
		}
	}
	return out, "", nil
}

var errCursor = fault.New(fault.Invalid, "invalid_cursor", "cursor is not one that a list returned")

// roomIn returns the number of templates to ask for.
func roomIn(limit, have int) int {
	if limit == 0 {
		return maxListLimit
	}
	return limit - have
}

// imagePage pages through the images of the hosts. Its cursor is the last name.
func (s *server) imagePage(ctx context.Context, limit int, cursor string) ([]types.Template, string, error) {
	names, err := s.images(ctx)
	if err != nil {
		return nil, "", err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name <= cursor })
	next := ""
	if len(names) > limit {
		names = names[:limit]
		next = names[limit-1]
	}
	return mapped(names, imageTemplate), next, nil
}

func (s *server) builtPage(ctx context.Context, limit int, cursor string) ([]types.Template, string, error) {
	list, next, err := s.Templates.List(ctx, limit, cursor)
	return mapped(list, builtTemplate), next, err
}

// snapshotPage leaves out the snapshots that are no templates.
func (s *server) snapshotPage(ctx context.Context, limit int, cursor string) ([]types.Template, string, error) {
	list, next, err := s.Sandboxes.ListSnapshots(ctx, control.SnapshotFilter{Limit: limit, Cursor: cursor})
	list = slices.DeleteFunc(slices.Clone(list), func(snap control.Snapshot) bool { return snap.TemplateName == "" })
	return mapped(list, snapshotTemplateOf), next, err
}
