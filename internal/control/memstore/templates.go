package memstore

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Templates are the rows of templates in a Store.
type Templates struct{ s *Store }

var _ templates.Store = Templates{}

// Templates returns the rows of templates.
func (s *Store) Templates() Templates { return Templates{s} }

// templateRows are the rows of templates, builds and layers.
type templateRows struct {
	templates map[templates.ID]templates.Template // without the fields of builds
	builds    []*buildRow                         // oldest first
	tags      map[templates.ID]map[string]templates.Tag
	layers    map[string]templates.Layer
}

func newTemplateRows() templateRows {
	return templateRows{
		templates: make(map[templates.ID]templates.Template), tags: make(map[templates.ID]map[string]templates.Tag),
		layers: make(map[string]templates.Layer),
	}
}

// InsertBuild implements templates.Store.
func (t Templates) InsertBuild(_ context.Context, tmpl templates.Template, b templates.Build) (templates.Template, templates.Build, error) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	unended := 0
	for _, row := range t.s.tmpl.builds {
		if !row.build.Status.Ended() {
			unended++
		}
	}
	if unended >= templates.MaxUnended {
		return templates.Template{}, templates.Build{}, templates.QuotaUsed(templates.MaxUnended, "builds that have not ended")
	}
	now := t.s.timestamp()
	have, found := t.s.templateNamed(tmpl.Name)
	if !found {
		if t.s.snapshotNamed(tmpl.Name, "") {
			return templates.Template{}, templates.Build{}, templates.NameTaken()
		}
		if len(t.s.tmpl.templates) >= templates.MaxTemplates {
			return templates.Template{}, templates.Build{}, templates.QuotaUsed(templates.MaxTemplates, "templates")
		}
		have = templates.Template{ID: tmpl.ID, Name: tmpl.Name, Public: tmpl.Public, CreatedAt: now}
	}
	if err := t.s.checkTags(have.ID, b.Tags); err != nil {
		return templates.Template{}, templates.Build{}, err
	}
	if _, err := t.s.build(b.ID); err == nil {
		return templates.Template{}, templates.Build{}, fault.New(fault.Exists, "exists", "it exists already")
	}
	have.UpdatedAt = now
	t.s.tmpl.templates[have.ID] = have
	row := &buildRow{build: templates.Build{
		ID: b.ID, Template: have.ID, Status: templates.Waiting, Tags: append([]string{}, b.Tags...), VCPUs: b.VCPUs, MemoryMB: b.MemoryMB,
		DiskMB: b.DiskMB, Runtime: b.Runtime, CreatedAt: now, UpdatedAt: now,
	}}
	t.s.tmpl.builds = append(t.s.tmpl.builds, row)
	return t.s.whole(have), row.copy(), nil
}

// templateNamed finds a template by name. The caller holds mu.
func (s *Store) templateNamed(name string) (templates.Template, bool) {
	for _, row := range s.tmpl.templates {
		if row.Name == name {
			return row, true
		}
	}
	return templates.Template{}, false
}

// snapshotNamed reports whether a snapshot other than except is the template name. The
// caller holds mu.
func (s *Store) snapshotNamed(name string, except sandbox.SnapshotID) bool {
	for _, row := range s.snaps {
		if row.TemplateName == name && row.ID != except {
			return true
		}
	}
	return false
}

// checkTags fails if a template would have too many tags with the ones given. The caller
// holds mu.
func (s *Store) checkTags(id templates.ID, tags []string) error {
	n := len(tags)
	for name := range s.tmpl.tags[id] {
		if !slices.Contains(tags, name) {
			n++
		}
	}
	if n > templates.MaxTags {
		return templates.QuotaUsed(templates.MaxTags, "tags of the template")
	}
	return nil
}

// whole returns row with the fields that come from builds and tags. The caller holds mu.
func (s *Store) whole(row templates.Template) templates.Template {
	row.SpawnedAt = storedPointer(row.SpawnedAt)
	row.Tags = s.tagsOf(row.ID)
	for _, b := range s.tmpl.builds {
		if b.build.Template == row.ID {
			row.Builds++
			row.Latest, row.Status = b.build.ID, b.build.Status
			row.VCPUs, row.MemoryMB, row.DiskMB = b.build.VCPUs, b.build.MemoryMB, b.build.DiskMB
		}
	}
	return row
}

// tagsOf returns the tags of a template by name; nil if there are none. The caller holds mu.
func (s *Store) tagsOf(id templates.ID) []templates.Tag {
	return slices.SortedFunc(maps.Values(s.tmpl.tags[id]), func(a, b templates.Tag) int { return cmp.Compare(a.Name, b.Name) })
}

// GetTemplate implements templates.Store.
func (t Templates) GetTemplate(_ context.Context, idOrName string) (templates.Template, error) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	return t.s.getTemplate(idOrName)
}

func (s *Store) getTemplate(ref string) (templates.Template, error) {
	row, found := s.tmpl.templates[templates.ID(ref)]
	if !found {
		row, found = s.templateNamed(ref)
	}
	if !found {
		return templates.Template{}, templates.NotFound(ref)
	}
	return s.whole(row), nil
}

// ListTemplates implements templates.Store.
func (t Templates) ListTemplates(_ context.Context, limit int, cursor string) ([]templates.Template, string, error) {
	if limit < 0 || limit > maxList {
		return nil, "", fault.New(fault.Invalid, "invalid_limit", "limit must be from 1 to %d", maxList)
	}
	if cursor != "" && !sandbox.ValidTemplateName(cursor) {
		return nil, "", fault.New(fault.Invalid, "invalid_cursor", "cursor must be one that an earlier page returned")
	}
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	out := []templates.Template{}
	for _, row := range t.s.tmpl.templates {
		if row.Name > cursor {
			out = append(out, t.s.whole(row))
		}
	}
	slices.SortFunc(out, func(a, b templates.Template) int { return strings.Compare(a.Name, b.Name) })
	if limit > 0 && len(out) > limit {
		return out[:limit], out[limit-1].Name, nil
	}
	return out, "", nil
}

// SetPublic implements templates.Store.
func (t Templates) SetPublic(_ context.Context, id templates.ID, public bool) (templates.Template, error) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	row, found := t.s.tmpl.templates[id]
	if found {
		row.Public, row.UpdatedAt = public, t.s.timestamp()
		t.s.tmpl.templates[id] = row
	}
	return t.s.getTemplate(string(id))
}

// DeleteTemplate implements templates.Store.
func (t Templates) DeleteTemplate(_ context.Context, id templates.ID) ([]sandbox.SnapshotID, error) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if _, found := t.s.tmpl.templates[id]; !found {
		return nil, templates.NotFound(string(id))
	}
	out := []sandbox.SnapshotID{}
	for _, b := range t.s.tmpl.builds {
		if b.build.Template == id && b.build.Snapshot != "" {
			out = append(out, b.build.Snapshot)
		}
	}
	t.s.tmpl.builds = slices.DeleteFunc(t.s.tmpl.builds, func(b *buildRow) bool { return b.build.Template == id })
	delete(t.s.tmpl.templates, id)
	delete(t.s.tmpl.tags, id)
	return out, nil
}

// CountSpawn implements templates.Store.
func (t Templates) CountSpawn(_ context.Context, id templates.ID) error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if row, found := t.s.tmpl.templates[id]; found {
		now := t.s.timestamp()
		row.Spawned, row.SpawnedAt = row.Spawned+1, &now
		t.s.tmpl.templates[id] = row
	}
	return nil
}

// Tags implements templates.Store.
func (t Templates) Tags(_ context.Context, id templates.ID) ([]templates.Tag, error) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	return append([]templates.Tag{}, t.s.tagsOf(id)...), nil
}

// SetTags implements templates.Store.
func (t Templates) SetTags(_ context.Context, id templates.ID, build templates.BuildID, tags []string) error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	row, err := t.s.build(build)
	switch {
	case err != nil || row.build.Template != id:
		return templates.BuildNotFound(build)
	case row.build.Status != templates.Ready:
		return templates.WrongBuild(row.build, templates.Ready)
	case row.build.Snapshot == "":
		return templates.SnapshotGone(build)
	}
	if err := t.s.checkTags(id, tags); err != nil {
		return err
	}
	t.s.setTags(id, build, tags)
	return nil
}

// setTags makes tags name a build. The caller holds mu.
func (s *Store) setTags(id templates.ID, build templates.BuildID, tags []string) {
	if s.tmpl.tags[id] == nil {
		s.tmpl.tags[id] = make(map[string]templates.Tag)
	}
	for _, name := range tags {
		s.tmpl.tags[id][name] = templates.Tag{Name: name, Build: build, CreatedAt: s.timestamp()}
	}
	s.touchTemplate(id)
}

func (s *Store) touchTemplate(id templates.ID) {
	if row, found := s.tmpl.templates[id]; found {
		row.UpdatedAt = s.timestamp()
		s.tmpl.templates[id] = row
	}
}

// RemoveTags implements templates.Store.
func (t Templates) RemoveTags(_ context.Context, id templates.ID, tags []string) error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	row, found := t.s.tmpl.templates[id]
	if !found {
		return templates.NotFound(string(id))
	}
	for _, tag := range tags {
		if _, found := t.s.tmpl.tags[id][tag]; !found {
			return templates.TagNotFound(row.Name, tag)
		}
	}
	for _, tag := range tags {
		delete(t.s.tmpl.tags[id], tag)
	}
	t.s.touchTemplate(id)
	return nil
}

// Expire implements templates.Store.
func (t Templates) Expire(_ context.Context, e templates.Expiry) ([]sandbox.SnapshotID, error) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	var out []sandbox.SnapshotID
	now := t.s.timestamp()
	withSnapshot, all := make(map[templates.ID]int), make(map[templates.ID]int)
	old := make(map[templates.BuildID]bool)
	for _, row := range slices.Backward(t.s.tmpl.builds) {
		b := &row.build
		if b.Snapshot != "" {
			withSnapshot[b.Template]++
			if withSnapshot[b.Template] > e.Keep && !b.FinishedAt.After(now.Add(-e.Untagged)) && !t.s.isTagged(*b) {
				out = append(out, b.Snapshot)
				b.Snapshot, b.UpdatedAt = "", now
			}
		}
		if b.Status == templates.Waiting && !b.CreatedAt.After(now.Add(-e.Waiting)) {
			row.end(templates.Failed, &templates.Reason{Message: templates.Abandoned}, now)
		}
		all[b.Template]++
		old[b.ID] = all[b.Template] > templates.KeptBuilds && b.Snapshot == "" && b.Status.Ended()
	}
	t.s.tmpl.builds = slices.DeleteFunc(t.s.tmpl.builds, func(row *buildRow) bool { return old[row.build.ID] })
	return slices.Concat(out, t.s.straySnapshots(now.Add(-e.Stray))), nil
}

// straySnapshots returns the snapshots of builds that no build and no layer names, if they
// are not younger than a time. The caller holds mu.
func (s *Store) straySnapshots(before time.Time) (out []sandbox.SnapshotID) {
	for id, row := range s.snaps {
		ofBuild := row.Kind == control.KindLayer || row.Kind == control.KindTemplate
		named := slices.ContainsFunc(s.tmpl.builds, func(b *buildRow) bool { return b.build.Snapshot == id })
		for _, l := range s.tmpl.layers {
			named = named || l.Snapshot == id
		}
		if ofBuild && !named && row.Status != control.SnapshotDeleting && !row.CreatedAt.After(before) {
			out = append(out, id)
		}
	}
	return out
}

func (s *Store) isTagged(b templates.Build) bool {
	return slices.ContainsFunc(s.tagsOf(b.Template), func(tag templates.Tag) bool { return tag.Build == b.ID })
}

// FindLayer implements templates.Store.
func (t Templates) FindLayer(_ context.Context, keys []string, made templates.BuildID) (templates.Layer, bool, error) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	for _, key := range slices.Backward(keys) {
		if l, found := t.s.tmpl.layers[key]; found && (made == "" || l.Build == made) {
			l.UsedAt = t.s.timestamp()
			t.s.tmpl.layers[key] = l
			return l, true, nil
		}
	}
	return templates.Layer{}, false, nil
}

// InsertLayer implements templates.Store.
func (t Templates) InsertLayer(_ context.Context, l templates.Layer) (sandbox.SnapshotID, error) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	var unneeded sandbox.SnapshotID
	if have, found := t.s.tmpl.layers[l.Key]; found && have.Snapshot != l.Snapshot {
		unneeded = have.Snapshot
	}
	l.CreatedAt = t.s.timestamp()
	l.UsedAt = l.CreatedAt
	t.s.tmpl.layers[l.Key] = l
	return unneeded, nil
}

// RemoveLayer implements templates.Store.
func (t Templates) RemoveLayer(_ context.Context, key string, snapshot sandbox.SnapshotID) error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if t.s.tmpl.layers[key].Snapshot == snapshot {
		delete(t.s.tmpl.layers, key)
	}
	return nil
}

// TrimLayers implements templates.Store.
func (t Templates) TrimLayers(_ context.Context, count int, bytes uint64) ([]sandbox.SnapshotID, error) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	newest := slices.SortedFunc(maps.Values(t.s.tmpl.layers), func(a, b templates.Layer) int {
		return cmp.Or(b.UsedAt.Compare(a.UsedAt), cmp.Compare(a.Key, b.Key))
	})
	out, total := []sandbox.SnapshotID{}, uint64(0)
	for i, l := range newest {
		if total += l.Bytes; i >= count || total > bytes {
			out = append(out, l.Snapshot)
			delete(t.s.tmpl.layers, l.Key)
		}
	}
	return out, nil
}

// ResolveTemplate implements control.Store.
func (s *Store) ResolveTemplate(_ context.Context, name, tag string) (control.ResolvedTemplate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tmpl, err := s.getTemplate(name)
	if err != nil {
		return control.ResolvedTemplate{}, err
	}
	row, err := s.findBuild(tmpl.ID, tag)
	switch {
	case err == nil:
		return tmpl.Resolved(&row.build), nil
	case fault.Is(err, fault.NotFound):
		return tmpl.Resolved(nil), nil
	default:
		return control.ResolvedTemplate{}, err
	}
}

// CountSpawn implements control.Store.
func (s *Store) CountSpawn(ctx context.Context, templateID string) error {
	return s.Templates().CountSpawn(ctx, templates.ID(templateID))
}
