package e2b

import (
	"net/http"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// templateJSON is the schema Template; with Builds, TemplateWithBuilds.
type templateJSON struct {
	TemplateID    string      `json:"templateID"`
	BuildID       string      `json:"buildID"`
	CPUCount      int         `json:"cpuCount"`
	MemoryMB      int         `json:"memoryMB"`
	DiskSizeMB    int         `json:"diskSizeMB"`
	Public        bool        `json:"public"`
	Aliases       []string    `json:"aliases"`
	Names         []string    `json:"names"`
	CreatedAt     time.Time   `json:"createdAt"`
	UpdatedAt     time.Time   `json:"updatedAt"`
	CreatedBy     *struct{}   `json:"createdBy"`
	LastSpawnedAt *time.Time  `json:"lastSpawnedAt"`
	SpawnCount    int         `json:"spawnCount"`
	BuildCount    int         `json:"buildCount"`
	EnvdVersion   string      `json:"envdVersion"`
	BuildStatus   string      `json:"buildStatus"`
	Builds        []buildJSON `json:"builds,omitempty"`
}

type buildJSON struct {
	BuildID     string    `json:"buildID"`
	Status      string    `json:"status"`
	CreatedAt   time.Time `json:"createdAt"`
	UpdatedAt   time.Time `json:"updatedAt"`
	FinishedAt  time.Time `json:"finishedAt"`
	CPUCount    int       `json:"cpuCount"`
	MemoryMB    int       `json:"memoryMB"`
	DiskSizeMB  int       `json:"diskSizeMB"`
	EnvdVersion string    `json:"envdVersion"`
}

// epoch is the time at which images were made: they have none of their own.
var epoch = time.Unix(0, 0).UTC()

func templateOf(src source) templateJSON {
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

// listTemplates returns the images of the hosts and the snapshots that are templates.
func (s *server) listTemplates(w http.ResponseWriter, r *http.Request) error {
	images, err := s.images(r.Context())
	if err != nil {
		return err
	}
	out := []templateJSON{}
	for _, name := range images {
		out = append(out, templateOf(source{image: name}))
	}
	f := control.SnapshotFilter{Limit: maxPage}
	for {
		rows, next, err := s.Sandboxes.ListSnapshots(r.Context(), f)
		if err != nil {
			return err
		}
		for _, snap := range rows {
			if snap.TemplateName != "" && snap.Status == control.SnapshotReady {
				out = append(out, templateOf(source{snapshot: snap.ID, row: snap}))
			}
		}
		if f.Cursor = next; next == "" {
			break
		}
	}
	writeJSON(w, http.StatusOK, out)
	return nil
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
	out := templateOf(src)
	out.Builds = []buildJSON{{
		BuildID: out.BuildID, Status: out.BuildStatus, CreatedAt: out.CreatedAt, UpdatedAt: out.UpdatedAt, FinishedAt: out.UpdatedAt,
		CPUCount: out.CPUCount, MemoryMB: out.MemoryMB, DiskSizeMB: out.DiskSizeMB, EnvdVersion: envdVersion,
	}}
	writeJSON(w, http.StatusOK, out)
	return nil
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

func (s *server) listTags(w http.ResponseWriter, r *http.Request) error {
	src, err := s.named(r)
	if err != nil {
		return err
	}
	out := templateOf(src)
	writeJSON(w, http.StatusOK, []map[string]any{{"tag": defaultTag, "buildID": out.BuildID, "createdAt": out.CreatedAt}})
	return nil
}

// deleteTemplate deletes a snapshot, also one that is a template. Images belong to the
// hosts.
func (s *server) deleteTemplate(w http.ResponseWriter, r *http.Request) error {
	src, err := s.named(r)
	if err != nil {
		return err
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
