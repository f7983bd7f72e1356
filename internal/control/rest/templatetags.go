package rest

import (
	"context"
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// pathTag returns the template and the tag in the request's path. The tag need not
// exist.
func (s *server) pathTag(r *http.Request) (templates.Template, string, error) {
	name, err := templateNameOf(r)
	if err != nil {
		return templates.Template{}, "", err
	}
	tag := chi.URLParam(r, "tag")
	if !templates.ValidTag(tag) {
		return templates.Template{}, "", tagNotFound()
	}
	t, err := s.Templates.Get(r.Context(), name)
	return t, tag, err
}

func tagNotFound() error {
	return fault.New(fault.NotFound, "tag_not_found", "the template has no such tag")
}

func (s *server) getTag(w http.ResponseWriter, r *http.Request) {
	t, tag, err := s.pathTag(r)
	if err == nil {
		err = s.answerTag(w, r.Context(), t, tag)
	}
	if err != nil {
		s.fail(w, r, err)
	}
}

// answerTag answers with a tag of t, unless it returns an error.
func (s *server) answerTag(w http.ResponseWriter, ctx context.Context, t templates.Template, name string) error {
	tags, err := s.Templates.Tags(ctx, string(t.ID))
	if err != nil {
		return err
	}
	for _, tag := range tags {
		if tag.Name == name {
			writeJSON(w, http.StatusOK, tagOf(tag))
			return nil
		}
	}
	return tagNotFound()
}

// setTag makes a tag name the build that the body names.
func (s *server) setTag(w http.ResponseWriter, r *http.Request) {
	t, tag, err := s.pathTag(r)
	var build string
	if err == nil {
		build, err = readTagTarget(w, r)
	}
	if err == nil {
		_, err = s.Templates.SetTags(r.Context(), t.Name+":"+build, []string{tag})
	}
	if err == nil {
		err = s.answerTag(w, r.Context(), t, tag)
	}
	if err != nil {
		s.fail(w, r, err)
	}
}

// readTagTarget reads a SetTagRequest and returns the tag or the id that it has.
func readTagTarget(w http.ResponseWriter, r *http.Request) (string, error) {
	var build, tag *string
	if err := readJSON(w, r, fields{"build_id": &build, "from_tag": &tag}); err != nil {
		return "", err
	}
	switch {
	case (build == nil) == (tag == nil):
		return "", fault.New(fault.Invalid, "invalid_tag", "either build_id or from_tag is required")
	case build != nil && !buildID.MatchString(*build):
		return "", fault.New(fault.Invalid, "invalid_tag", "build_id is not the id of a build")
	case build != nil:
		return *build, nil
	case !templates.ValidTag(*tag):
		return "", fault.New(fault.Invalid, "invalid_tag", "from_tag is not a tag: %s", tagRule)
	}
	return *tag, nil
}

// tagRule describes templates.ValidTag.
const tagRule = "lower-case letters, digits, '_' and, after the first character, '.' and '-'; at most 128"

func (s *server) removeTag(w http.ResponseWriter, r *http.Request) {
	t, tag, err := s.pathTag(r)
	if err == nil {
		err = s.Templates.RemoveTags(r.Context(), t.Name, []string{tag})
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
