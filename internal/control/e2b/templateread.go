package e2b

import (
	"net/http"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// templateJSON is the schema Template.
type templateJSON struct {
	TemplateID    string     `json:"templateID"`
	BuildID       string     `json:"buildID"`
	CPUCount      int        `json:"cpuCount"`
	MemoryMB      int        `json:"memoryMB"`
	DiskSizeMB    int        `json:"diskSizeMB"`
	Public        bool       `json:"public"`
	Aliases       []string   `json:"aliases"`
	Names         []string   `json:"names"`
	CreatedAt     time.Time  `json:"createdAt"`
	UpdatedAt     time.Time  `json:"updatedAt"`
	CreatedBy     *struct{}  `json:"createdBy"`
	LastSpawnedAt *time.Time `json:"lastSpawnedAt"`
	SpawnCount    int64      `json:"spawnCount"`
	BuildCount    int        `json:"buildCount"`
	EnvdVersion   string     `json:"envdVersion"`
	BuildStatus   string     `json:"buildStatus"`
}

type buildJSON struct {
	BuildID     string     `json:"buildID"`
	Status      string     `json:"status"`
	CreatedAt   time.Time  `json:"createdAt"`
	UpdatedAt   time.Time  `json:"updatedAt"`
	FinishedAt  *time.Time `json:"finishedAt,omitempty"`
	CPUCount    int        `json:"cpuCount"`
	MemoryMB    int        `json:"memoryMB"`
	DiskSizeMB  int        `json:"diskSizeMB"`
	EnvdVersion string     `json:"envdVersion"`
}

// epoch is the time at which images were made: they have none of their own.
var epoch = time.Unix(0, 0).UTC()

func templateOf(src source) templateJSON {
	if src.isBuilt() {
		return builtOf(src.built)
	}
	out := templateJSON{
		TemplateID: src.image, BuildID: src.buildID(), Public: true, CreatedAt: epoch, UpdatedAt: epoch,
		CPUCount: sandbox.DefaultVCPUs, MemoryMB: sandbox.DefaultMemoryMB, DiskSizeMB: sandbox.DefaultDiskMB,
		BuildCount: 1, EnvdVersion: envdVersion, BuildStatus: "ready",
	}
	name := src.image
	if src.image == sandbox.DefaultTemplate {
		out.TemplateID, name = baseTemplate, baseTemplate
	}
	if snap := src.row; src.snapshot != "" {
		out.TemplateID, name = string(snap.ID), snap.TemplateName
		if name == "" {
			name = snap.Name
		}
		out.CPUCount, out.MemoryMB, out.DiskSizeMB = snap.Spec.VCPUs, snap.Spec.MemoryMB, snap.Spec.DiskMB
		out.Public, out.CreatedAt, out.UpdatedAt = false, snap.CreatedAt, snap.UpdatedAt
	}
	out.Aliases, out.Names = []string{}, []string{}
	if name != "" {
		out.Aliases, out.Names = append(out.Aliases, name), append(out.Names, name)
	}
	return out
}

// builtOf returns a template that builds made.
func builtOf(t templates.Template) templateJSON {
	out := templateJSON{
		TemplateID: string(t.ID), BuildID: string(t.Latest), CPUCount: t.VCPUs, MemoryMB: t.MemoryMB, DiskSizeMB: t.DiskMB,
		Public: t.Public, Aliases: []string{t.Name}, Names: []string{t.Name},
		CreatedAt: t.CreatedAt.UTC(), UpdatedAt: t.UpdatedAt.UTC(), LastSpawnedAt: t.SpawnedAt, SpawnCount: t.Spawned,
		BuildCount: t.Builds, EnvdVersion: envdVersion, BuildStatus: string(t.Status),
	}
	if out.LastSpawnedAt != nil {
		at := out.LastSpawnedAt.UTC()
		out.LastSpawnedAt = &at
	}
	return out
}

// named returns the template or snapshot of r's path.
func (s *server) named(r *http.Request) (source, error) {
	return s.resolve(r.Context(), param(r, "id"))
}

func (s *server) getTemplate(w http.ResponseWriter, r *http.Request) error {
	src, err := s.named(r)
	if err != nil {
		return err
	}
	out := struct {
		templateJSON
		Builds []buildJSON `json:"builds"`
	}{templateJSON: templateOf(src)}
	if !src.isBuilt() {
		out.Builds = []buildJSON{{
			BuildID: out.BuildID, Status: out.BuildStatus, CreatedAt: out.CreatedAt, UpdatedAt: out.UpdatedAt, FinishedAt: &out.UpdatedAt,
			CPUCount: out.CPUCount, MemoryMB: out.MemoryMB, DiskSizeMB: out.DiskSizeMB, EnvdVersion: envdVersion,
		}}
	} else if out.Builds, err = s.buildsOf(r, src.built.ID); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// buildsOf returns the builds of a template, the newest first.
func (s *server) buildsOf(r *http.Request, id templates.ID) ([]buildJSON, error) {
	rows, err := s.Templates.Builds(r.Context(), id)
	out := make([]buildJSON, len(rows))
	for i, b := range rows {
		out[i] = buildJSON{
			BuildID: string(b.ID), Status: string(b.Status), CreatedAt: b.CreatedAt.UTC(), UpdatedAt: b.UpdatedAt.UTC(), FinishedAt: b.FinishedAt,
			CPUCount: b.VCPUs, MemoryMB: b.MemoryMB, DiskSizeMB: b.DiskMB, EnvdVersion: envdVersion,
		}
	}
	return out, err
}

func (s *server) getAlias(w http.ResponseWriter, r *http.Request) error {
	src, err := s.named(r)
	if err != nil {
		return err
	}
	out := templateOf(src)
	writeJSON(w, http.StatusOK, map[string]any{"templateID": out.TemplateID, "public": out.Public})
	return nil
}

// updateTemplate changes whether others may use a template. Only built templates can be
// changed; all sandboxes of an installation may use them anyway.
func (s *server) updateTemplate(w http.ResponseWriter, r *http.Request) error {
	src, err := s.named(r)
	if err != nil {
		return err
	}
	in := struct {
		Public *bool `json:"public"`
	}{}
	if err := readJSON(w, r, &in); err != nil {
		return err
	}
	out := templateOf(src)
	switch {
	case in.Public == nil || *in.Public == out.Public:
	case !src.isBuilt():
		return invalid("template %s was not made by a build, so it cannot be changed", out.TemplateID)
	default:
		if _, err := s.Templates.SetPublic(r.Context(), string(src.built.ID), *in.Public); err != nil {
			return err
		}
	}
	writeJSON(w, http.StatusOK, map[string][]string{"names": out.Names})
	return nil
}

// deleteTemplate deletes a built template, or a snapshot, also one that is a template.
// Images belong to the hosts.
func (s *server) deleteTemplate(w http.ResponseWriter, r *http.Request) error {
	src, err := s.named(r)
	if err != nil {
		return err
	}
	if src.isBuilt() {
		return s.deleteBuilt(w, r, src)
	}
	if src.snapshot == "" {
		return invalid("template %s is part of the installation and cannot be deleted", src.image)
	}
	if src.row.TemplateName != "" {
		if _, err := s.Sandboxes.SetTemplate(r.Context(), src.snapshot, ""); err != nil {
			return err
		}
	}
	err = s.Sandboxes.DeleteSnapshot(r.Context(), src.snapshot)
	if fault.Is(err, fault.NotFound) {
		return noTemplate(param(r, "id"))
	}
	if err != nil {
		return err
	}
	return done(w)
}

// deleteBuilt deletes a template with all its builds. A tag alone is deleted by the call
// for tags.
func (s *server) deleteBuilt(w http.ResponseWriter, r *http.Request, src source) error {
	if src.tag != "" && src.tag != defaultTag {
		return invalid("a template is deleted by its name %s without a tag; a tag alone is removed with DELETE /templates/tags", src.built.Name)
	}
	err := s.Templates.Delete(r.Context(), string(src.built.ID))
	if fault.Is(err, fault.NotFound) {
		return noTemplate(param(r, "id"))
	}
	if err != nil {
		return err
	}
	return done(w)
}
