package e2b

import (
	"net/http"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// tagJSON is the schema TemplateTag.
type tagJSON struct {
	Tag       string    `json:"tag"`
	BuildID   string    `json:"buildID"`
	CreatedAt time.Time `json:"createdAt"`
}

// tags returns the tags of src.
func (s *server) tags(r *http.Request, src source) ([]tagJSON, error) {
	if !src.isBuilt() {
		out := templateOf(src)
		return []tagJSON{{defaultTag, out.BuildID, out.CreatedAt}}, nil
	}
	rows, err := s.Templates.Tags(r.Context(), src.built.Name)
	out := make([]tagJSON, len(rows))
	for i, tag := range rows {
		out[i] = tagJSON{tag.Name, string(tag.Build), tag.CreatedAt.UTC()}
	}
	return out, err
}

func (s *server) listTags(w http.ResponseWriter, r *http.Request) error {
	out, err := s.tagsOfPath(r)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (s *server) tagsOfPath(r *http.Request) ([]tagJSON, error) {
	src, err := s.named(r)
	if err != nil {
		return nil, err
	}
	return s.tags(r, src)
}

func (s *server) countTags(w http.ResponseWriter, r *http.Request) error {
	out, err := s.tagsOfPath(r)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]int{"total": len(out)})
	return nil
}

// tagExists tells whether the template of the path has a tag.
func (s *server) tagExists(w http.ResponseWriter, r *http.Request) error {
	tag := r.URL.Query().Get("tag")
	if _, err := tagsOf([]string{tag}); err != nil {
		return err
	}
	all, err := s.tagsOfPath(r)
	if err != nil {
		return err
	}
	found := false
	for _, have := range all {
		found = found || have.Tag == tag
	}
	writeJSON(w, http.StatusOK, map[string]any{"exists": found, "normalizedTag": tag})
	return nil
}

// taggable returns the built template that ref names. The tags of others cannot change.
func (s *server) taggable(r *http.Request, ref string) (source, error) {
	src, err := s.resolve(r.Context(), ref)
	if err == nil && !src.isBuilt() {
		err = invalid("template %.128s was not made by a build, so its tags cannot be changed", ref)
	}
	return src, err
}

// assignTags makes tags name the build of a target.
func (s *server) assignTags(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Target string   `json:"target"`
		Tags   []string `json:"tags"`
	}
	if err := readJSON(w, r, &in); err != nil {
		return err
	}
	if err := someTags(in.Tags); err != nil {
		return err
	}
	src, err := s.taggable(r, in.Target)
	if err != nil {
		return err
	}
	build, err := s.Templates.SetTags(r.Context(), src.reference(), in.Tags)
	if fault.ReasonOf(err) == reasonNoTemplate {
		err = noTemplate(in.Target)
	}
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, map[string]any{"buildID": string(build), "tags": in.Tags})
	return nil
}

// removeTags takes tags from a template. The default tag stays.
func (s *server) removeTags(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}
	if err := readJSON(w, r, &in); err != nil {
		return err
	}
	if err := someTags(in.Tags); err != nil {
		return err
	}
	src, err := s.taggable(r, in.Name)
	if err != nil {
		return err
	}
	if err := s.Templates.RemoveTags(r.Context(), src.built.Name, in.Tags); err != nil {
		return err
	}
	return done(w)
}

// someTags checks tags of which there has to be one.
func someTags(tags []string) error {
	if len(tags) == 0 {
		return invalid("tags must have an entry")
	}
	_, err := tagsOf(tags)
	return err
}
