package e2b

import (
	"context"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/control"
)

// maxTemplates is the largest number of templates in the list without pages.
const maxTemplates = 5000

// The kinds of templates, in the order of lists.
const (
	kindImages = iota
	kindBuilt
	kindSnapshots
	kindsEnd
)

// templatePlace is a position in the list of templates: the start of a kind, or behind
// the entries that a cursor of this kind has passed.
type templatePlace struct {
	kind   int
	cursor string
}

// listTemplates returns all templates, in one page.
func (s *server) listTemplates(w http.ResponseWriter, r *http.Request) error {
	out, _, err := s.templatePage(r.Context(), templatePlace{}, maxTemplates)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (s *server) listTemplatePage(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	limit, err := limitOf(q)
	if err != nil {
		return err
	}
	at, err := parseTemplatePlace(q.Get("nextToken"))
	if err != nil {
		return err
	}
	out, next, err := s.templatePage(r.Context(), at, limit)
	if err != nil {
		return err
	}
	if next.kind != kindsEnd {
		w.Header().Set(headerNext, next.token())
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// listImages returns the templates of the installation itself.
func (s *server) listImages(w http.ResponseWriter, r *http.Request) error {
	images, err := s.images(r.Context())
	if err != nil {
		return err
	}
	out := []templateJSON{}
	for _, name := range images {
		out = append(out, templateOf(source{image: name}))
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// templatePage returns at most limit templates from a place on, and the place behind
// them.
func (s *server) templatePage(ctx context.Context, at templatePlace, limit int) ([]templateJSON, templatePlace, error) {
	out := []templateJSON{}
	for len(out) < limit && at.kind != kindsEnd {
		list := []func(context.Context, string, int) ([]source, string, error){s.listedImages, s.listedBuilt, s.listedSnapshots}[at.kind]
		page, next, err := list(ctx, at.cursor, min(limit-len(out), maxPage))
		if err != nil {
			return nil, at, err
		}
		for _, src := range page {
			out = append(out, templateOf(src))
		}
		if at.cursor = next; next == "" {
			at.kind++
		}
	}
	return out, at, nil
}

// listedImages returns a page of images. Its cursor is the last name.
func (s *server) listedImages(ctx context.Context, cursor string, limit int) (page []source, next string, err error) {
	images, err := s.images(ctx)
	for _, name := range images {
		switch {
		case name <= cursor:
		case len(page) == limit:
			return page, page[limit-1].image, err
		default:
			page = append(page, source{image: name})
		}
	}
	return page, "", err
}

// listedBuilt returns a page of built templates.
func (s *server) listedBuilt(ctx context.Context, cursor string, limit int) (page []source, next string, err error) {
	if s.Templates == nil {
		return nil, "", nil
	}
	rows, next, err := s.Templates.List(ctx, limit, cursor)
	for _, t := range rows {
		page = append(page, source{built: t})
	}
	return page, next, err
}

// listedSnapshots returns the templates among a page of snapshots.
func (s *server) listedSnapshots(ctx context.Context, cursor string, limit int) (page []source, next string, err error) {
	rows, next, err := s.Sandboxes.ListSnapshots(ctx, control.SnapshotFilter{Limit: limit, Cursor: cursor})
	for _, snap := range rows {
		if snap.TemplateName != "" && snap.Status == control.SnapshotReady {
			page = append(page, source{snapshot: snap.ID, row: snap})
		}
	}
	return page, next, err
}

// token returns p as text.
func (p templatePlace) token() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(p.kind) + " " + p.cursor))
}

func parseTemplatePlace(token string) (templatePlace, error) {
	if token == "" {
		return templatePlace{}, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(token)
	kind, cursor, found := strings.Cut(string(text), " ")
	n, numErr := strconv.Atoi(kind)
	if err != nil || !found || numErr != nil || n < 0 || n >= kindsEnd {
		return templatePlace{}, invalid("nextToken must be one that an earlier page returned")
	}
	return templatePlace{n, cursor}, nil
}
