package rest

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// uploadsName is the part of the path below which uploads are; no template has this
// name.
const uploadsName = "uploads"

// withTemplates passes requests on to next if the server builds templates.
func (s *server) withTemplates(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.Templates == nil {
			s.fail(w, r, fault.New(fault.Unsupported, "templates_unsupported", "this server does not build templates"))
			return
		}
		next(w, r)
	}
}

// templateNameOf returns the name or id in the request's path. Text that can be neither
// is NotFound.
func templateNameOf(r *http.Request) (string, error) {
	name := chi.URLParam(r, "name")
	if !sandbox.ValidTemplateName(name) || name == uploadsName {
		return "", templateNotFound(name)
	}
	return name, nil
}

func templateNotFound(name string) error {
	const most = 64
	if len(name) > most {
		name = name[:most]
	}
	return fault.New(fault.NotFound, "template_not_found", "there is no template %q; GET /v1/templates lists them", name)
}

func (s *server) getTemplate(w http.ResponseWriter, r *http.Request) {
	answerOne(s, w, r, templateNameOf, s.findTemplate, func(t types.Template) types.Template { return t })
}

// findTemplate finds a template of any kind by its name, or a built one by its id.
func (s *server) findTemplate(ctx context.Context, name string) (types.Template, error) {
	if images, err := s.images(ctx); err != nil || slices.Contains(images, name) {
		return imageTemplate(name), err
	}
	t, err := s.Templates.Get(ctx, name)
	switch {
	case err == nil:
		builds, err := s.Templates.Builds(ctx, t.ID)
		out := builtTemplate(t)
		out.Builds = new(mapped(builds, buildOf))
		return out, err
	case !fault.Is(err, fault.NotFound):
		return types.Template{}, err
	}
	snap, found, snapErr := s.snapshotTemplate(ctx, name)
	if snapErr != nil || !found {
		return types.Template{}, cmp.Or(snapErr, err)
	}
	return snapshotTemplateOf(snap), nil
}

// deleteTemplate deletes a built template. The others belong to hosts and snapshots.
func (s *server) deleteTemplate(w http.ResponseWriter, r *http.Request) {
	name, err := templateNameOf(r)
	if err == nil {
		err = s.removeTemplate(r.Context(), name)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *server) removeTemplate(ctx context.Context, name string) error {
	images, err := s.images(ctx)
	if err != nil {
		return err
	}
	if slices.Contains(images, name) {
		return fault.New(fault.WrongState, "template_built_in", "%s is an image of the hosts, which the API does not delete", name)
	}
	err = s.Templates.Delete(ctx, name)
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	if snap, found, _ := s.snapshotTemplate(ctx, name); found {
		return fault.New(fault.WrongState, "template_is_snapshot",
			"%s is the snapshot %s: take its name away with DELETE /v1/snapshots/%[2]s/template, or \"wrenn snapshot template --remove %[2]s\"", name, snap.ID)
	}
	return err
}

// images returns the names of the hosts' images, sorted.
func (s *server) images(ctx context.Context) ([]string, error) {
	hosts, err := s.Sandboxes.Hosts(ctx)
	var names []string
	for _, h := range hosts {
		for _, name := range h.Templates {
			// Images that builds have imported are named so; they are parts of templates.
			if !strings.HasPrefix(name, sandbox.ImportedTemplatePrefix) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), err
}

// snapshotTemplate finds the snapshot that is the template called name.
func (s *server) snapshotTemplate(ctx context.Context, name string) (control.Snapshot, bool, error) {
	f := control.SnapshotFilter{Limit: maxListLimit}
	for {
		page, next, err := s.Sandboxes.ListSnapshots(ctx, f)
		for _, snap := range page {
			if err == nil && snap.TemplateName == name {
				return snap, true, nil
			}
		}
		if err != nil || next == "" {
			return control.Snapshot{}, false, err
		}
		f.Cursor = next
	}
}

func imageTemplate(name string) types.Template {
	return types.Template{Name: name, BuiltIn: true, Tags: []types.TemplateTag{}}
}

func snapshotTemplateOf(snap control.Snapshot) types.Template {
	return types.Template{
		Name: snap.TemplateName, SnapshotID: nullable(string(snap.ID)), Tags: []types.TemplateTag{},
		VCPUs: &snap.Spec.VCPUs, MemoryMB: &snap.Spec.MemoryMB, DiskMB: &snap.Spec.DiskMB,
		CreatedAt: utc(&snap.CreatedAt), UpdatedAt: utc(&snap.UpdatedAt),
	}
}

// builtTemplate leaves out the builds.
func builtTemplate(t templates.Template) types.Template {
	return types.Template{
		Name: t.Name, ID: nullable(string(t.ID)), Status: nullable(string(t.Status)),
		VCPUs: &t.VCPUs, MemoryMB: &t.MemoryMB, DiskMB: &t.DiskMB,
		LatestBuildID: nullable(string(t.Latest)), BuildCount: t.Builds, Tags: mapped(t.Tags, tagOf),
		SpawnCount: t.Spawned, LastSpawnedAt: utc(t.SpawnedAt),
		CreatedAt: utc(&t.CreatedAt), UpdatedAt: utc(&t.UpdatedAt),
	}
}

func tagOf(t templates.Tag) types.TemplateTag {
	return types.TemplateTag{Name: t.Name, BuildID: string(t.Build), CreatedAt: t.CreatedAt.UTC()}
}

func buildOf(b templates.Build) types.TemplateBuild {
	out := types.TemplateBuild{
		ID: string(b.ID), TemplateID: string(b.Template), Status: string(b.Status), Tags: b.Tags,
		VCPUs: b.VCPUs, MemoryMB: b.MemoryMB, DiskMB: b.DiskMB, Runtime: string(b.Runtime), Step: b.Step, Steps: b.Steps,
		SnapshotID: nullable(string(b.Snapshot)), HostID: nullable(b.HostID), User: nullable(b.User), Workdir: nullable(b.Workdir),
		CreatedAt: b.CreatedAt.UTC(), UpdatedAt: b.UpdatedAt.UTC(), StartedAt: utc(b.StartedAt), FinishedAt: utc(b.FinishedAt),
	}
	if out.Tags == nil {
		out.Tags = []string{}
	}
	if r := b.Reason; r != nil {
		out.Reason = &types.TemplateBuildReason{Message: r.Message, Step: r.Step}
	}
	return out
}

func logOf(e templates.LogEntry) types.TemplateBuildLog {
	return types.TemplateBuildLog{Seq: e.Seq, At: e.At.UTC().Truncate(time.Microsecond), Level: e.Level, Step: e.Step, Message: e.Message}
}

// mapped returns the results of f, never nil, because null is no list.
func mapped[A, B any](in []A, f func(A) B) []B {
	out := make([]B, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}
