package e2b

import (
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// buildRoutes are the routes of template builds. Without [Config.Templates] they are
// refused.
func (s *server) buildRoutes(r chi.Router) {
	r.Use(s.builds)
	r.Post("/v3/templates", s.handle(s.beginBuild))
	r.Post("/v2/templates", s.handle(s.beginBuild))
	r.Get("/templates/{id}/files/{hash}", s.handle(s.linkUpload))
	r.Post("/v2/templates/{id}/builds/{build}", s.handle(s.startBuild))
	r.Get("/templates/{id}/builds/{build}/status", s.handle(s.buildStatus))
	r.Get("/templates/{id}/builds/{build}/logs", s.handle(s.buildLogs))
	r.Post("/templates/tags", s.handle(s.assignTags))
	r.Delete("/templates/tags", s.handle(s.removeTags))
	r.Patch("/templates/{id}", s.handle(s.updateTemplate))
	r.Patch("/v2/templates/{id}", s.handle(s.updateTemplate))
}

// builds refuses requests if the server has no builds.
func (s *server) builds(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.Templates == nil {
			s.fail(w, r, refuse(http.StatusNotImplemented, "", "template builds are not supported: make a template from a snapshot of a sandbox"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// newBuild is the schema TemplateBuildRequestV3. Older clients send the name as alias.
type newBuild struct {
	Name        string   `json:"name"`
	Alias       string   `json:"alias"`
	Tags        []string `json:"tags"`
	CPUCount    *int     `json:"cpuCount"`
	MemoryMB    *int     `json:"memoryMB"`
	MinFreeDisk *int     `json:"minFreeDiskMb"`
}

// begunJSON is the schema TemplateRequestResponseV3.
type begunJSON struct {
	TemplateID string   `json:"templateID"`
	BuildID    string   `json:"buildID"`
	Public     bool     `json:"public"`
	Names      []string `json:"names"`
	Tags       []string `json:"tags"`
	Aliases    []string `json:"aliases"`
}

// beginBuild makes a build, which waits for its files and its steps.
func (s *server) beginBuild(w http.ResponseWriter, r *http.Request) error {
	var in newBuild
	if err := readJSON(w, r, &in); err != nil {
		return err
	}
	n, err := in.request()
	if err != nil {
		return err
	}
	if err := s.ownName(r, n.Name); err != nil {
		return err
	}
	t, b, err := s.Templates.Begin(r.Context(), n)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusAccepted, begunJSON{
		TemplateID: string(t.ID), BuildID: string(b.ID), Public: t.Public,
		Names: []string{t.Name}, Aliases: []string{t.Name}, Tags: append([]string{}, b.Tags...),
	})
	return nil
}

// request returns the build that in asks for.
func (in newBuild) request() (n templates.NewBuild, err error) {
	name := in.Name
	if name == "" {
		name = in.Alias
	}
	n.Name = strings.ToLower(strings.TrimSpace(name))
	if n.Name == "" {
		return n, invalid("name is required")
	}
	if _, err := templates.ParseReference(n.Name); err != nil {
		return n, err
	}
	if n.Tags, err = tagsOf(in.Tags); err != nil {
		return n, err
	}
	// The sandbox's size is checked here, because 0 would be the default.
	spec := sandbox.Spec{}.WithDefaults()
	for _, size := range []struct {
		given    *int
		to, spec *int
	}{{in.CPUCount, &n.VCPUs, &spec.VCPUs}, {in.MemoryMB, &n.MemoryMB, &spec.MemoryMB}} {
		if size.given != nil {
			*size.to, *size.spec = *size.given, *size.given
		}
	}
	if in.MinFreeDisk != nil {
		if *in.MinFreeDisk < 0 {
			return n, invalid("minFreeDiskMb must be at least 0")
		}
		// The default size is the room of the steps themselves.
		n.DiskMB = sandbox.DefaultDiskMB + *in.MinFreeDisk
		spec.DiskMB = n.DiskMB
	}
	return n, spec.Validate()
}

// ownName refuses names of images, which belong to the installation.
func (s *server) ownName(r *http.Request, ref string) error {
	name, err := templates.ParseReference(ref)
	if err != nil {
		return err
	}
	_, err = s.image(r.Context(), name.Name)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil
	case err != nil:
		return err
	default:
		return refuse(http.StatusConflict, "", "the template %s is part of the installation: give another name", name.Name)
	}
}

// tagsOf checks tags.
func tagsOf(given []string) ([]string, error) {
	if len(given) > templates.MaxBuildTags {
		return nil, invalid("tags may have at most %d entries", templates.MaxBuildTags)
	}
	for _, tag := range given {
		if !templates.ValidTag(tag) {
			return nil, invalid("a tag has lower-case letters, digits, '_', '.' and '-', at most 128 characters, and begins with a letter, a digit or '_'")
		}
	}
	return given, nil
}
