package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/db"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// templateLock is the key of the advisory lock under which names, tags and layers of
// templates are changed, a number that nothing else in the database uses.
const templateLock = migrationLock + 2

// Templates are the rows of templates in the database of a Store. It is safe for
// concurrent use.
//
// Invariants: a transaction that changes a name, a tag or a layer, or begins or ends a
// build, holds one lock for the whole database, so that the checks in it see each other;
// a build ends once.
type Templates struct {
	store *Store
	q     *db.Queries
}

var _ templates.Store = Templates{}

// Templates returns the rows of templates.
func (s *Store) Templates() Templates { return Templates{store: s, q: s.q} }

// locked runs fn in a transaction that holds the lock of templates.
func (t Templates) locked(ctx context.Context, fn func(*db.Queries) error) error {
	return t.store.inTx(ctx, func(q *db.Queries) error {
		if err := q.LockTemplates(ctx, templateLock); err != nil {
			return err
		}
		return fn(q)
	})
}

// InsertBuild implements templates.Store.
func (t Templates) InsertBuild(ctx context.Context, tmpl templates.Template, b templates.Build) (templates.Template, templates.Build, error) {
	var stored templates.Template
	var build templates.Build
	err := t.locked(ctx, func(q *db.Queries) error {
		unended, err := q.CountUnendedBuilds(ctx)
		if err != nil {
			return err
		}
		if unended >= templates.MaxUnended {
			return templates.QuotaUsed(templates.MaxUnended, "builds that have not ended")
		}
		id, err := templateID(ctx, q, tmpl)
		if err != nil {
			return err
		}
		if err := checkTags(ctx, q, id, b.Tags); err != nil {
			return err
		}
		err = q.InsertBuild(ctx, db.InsertBuildParams{
			ID: string(b.ID), TemplateID: id, Tags: append([]string{}, b.Tags...), Vcpus: int32(b.VCPUs), MemoryMb: int32(b.MemoryMB),
			DiskMb: int32(b.DiskMB), Runtime: string(b.Runtime),
		})
		if err != nil {
			return err
		}
		row, err := q.GetBuild(ctx, string(b.ID))
		if err != nil {
			return err
		}
		build = fromBuild(row)
		if err := q.TouchTemplate(ctx, id); err != nil {
			return err
		}
		stored, err = getTemplate(ctx, q, id)
		return err
	})
	return stored, build, err
}

// templateID returns the id of the template with the name of tmpl, which it inserts if
// the name is new. The caller holds the lock.
func templateID(ctx context.Context, q *db.Queries, tmpl templates.Template) (string, error) {
	have, err := q.TemplateByName(ctx, tmpl.Name)
	if !errors.Is(err, pgx.ErrNoRows) {
		return have.ID, err
	}
	switch _, err := q.TemplateSnapshot(ctx, tmpl.Name); {
	case err == nil:
		return "", templates.NameTaken()
	case !errors.Is(err, pgx.ErrNoRows):
		return "", err
	}
	n, err := q.CountTemplates(ctx)
	if err != nil {
		return "", err
	}
	if n >= templates.MaxTemplates {
		return "", templates.QuotaUsed(templates.MaxTemplates, "templates")
	}
	return string(tmpl.ID), q.InsertTemplate(ctx, db.InsertTemplateParams{ID: string(tmpl.ID), Name: tmpl.Name, Public: tmpl.Public})
}

// checkTags fails if the template would have too many tags with the ones given.
func checkTags(ctx context.Context, q *db.Queries, id string, tags []string) error {
	others, err := q.CountOtherTags(ctx, db.CountOtherTagsParams{TemplateID: id, Names: append([]string{}, tags...)})
	if err == nil && others+int64(len(tags)) > templates.MaxTags {
		err = templates.QuotaUsed(templates.MaxTags, "tags of the template")
	}
	return err
}

// GetTemplate implements templates.Store.
func (t Templates) GetTemplate(ctx context.Context, idOrName string) (templates.Template, error) {
	tmpl, err := getTemplate(ctx, t.q, idOrName)
	return tmpl, faultOf(err)
}

// getTemplate finds a template by id, else by name.
func getTemplate(ctx context.Context, q *db.Queries, ref string) (templates.Template, error) {
	rows, err := q.Templates(ctx, db.TemplatesParams{Ref: &ref})
	if err != nil {
		return templates.Template{}, err
	}
	if i := slices.IndexFunc(rows, func(r db.TemplatesRow) bool { return r.Template.ID == ref }); i > 0 {
		rows[0] = rows[i]
	}
	if len(rows) == 0 {
		return templates.Template{}, templates.NotFound(ref)
	}
	found, err := withTags(ctx, q, rows[:1])
	if err != nil {
		return templates.Template{}, err
	}
	return found[0], nil
}

// ListTemplates implements templates.Store. The cursor is the name of the last template.
func (t Templates) ListTemplates(ctx context.Context, limit int, cursor string) ([]templates.Template, string, error) {
	if limit < 0 || limit > maxList {
		return nil, "", fault.New(fault.Invalid, "invalid_limit", "limit must be from 1 to %d", maxList)
	}
	if cursor != "" && !sandbox.ValidTemplateName(cursor) {
		return nil, "", fault.New(fault.Invalid, "invalid_cursor", "cursor must be one that an earlier page returned")
	}
	p := db.TemplatesParams{After: optional(cursor)}
	if limit > 0 {
		n := int32(limit + 1)
		p.MaxRows = &n
	}
	rows, err := t.q.Templates(ctx, p)
	if err != nil {
		return nil, "", faultOf(err)
	}
	next := ""
	if limit > 0 && len(rows) > limit {
		rows = rows[:limit]
		next = rows[limit-1].Template.Name
	}
	out, err := withTags(ctx, t.q, rows)
	return out, next, faultOf(err)
}

// withTags returns the templates of rows with their tags.
func withTags(ctx context.Context, q *db.Queries, rows []db.TemplatesRow) ([]templates.Template, error) {
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.Template.ID
	}
	tags, err := q.TagsOfTemplates(ctx, ids)
	if err != nil {
		return nil, err
	}
	tagsOf := make(map[string][]templates.Tag)
	for _, tag := range tags {
		tagsOf[tag.TemplateID] = append(tagsOf[tag.TemplateID], fromTag(tag))
	}
	out := make([]templates.Template, 0, len(rows))
	for _, r := range rows {
		out = append(out, templates.Template{
			ID: templates.ID(r.Template.ID), Name: r.Template.Name, Public: r.Template.Public,
			VCPUs: int(r.Vcpus), MemoryMB: int(r.MemoryMb), DiskMB: int(r.DiskMb),
			Tags: tagsOf[r.Template.ID], Latest: templates.BuildID(r.Latest), Status: templates.BuildStatus(r.Status), Builds: int(r.Builds),
			Spawned: r.Template.Spawned, SpawnedAt: utc(r.Template.SpawnedAt),
			CreatedAt: r.Template.CreatedAt.UTC(), UpdatedAt: r.Template.UpdatedAt.UTC(),
		})
	}
	return out, nil
}

func fromTag(t db.TemplateTag) templates.Tag {
	return templates.Tag{Name: t.Name, Build: templates.BuildID(t.BuildID), CreatedAt: t.CreatedAt.UTC()}
}

// SetPublic implements templates.Store.
func (t Templates) SetPublic(ctx context.Context, id templates.ID, public bool) (templates.Template, error) {
	if _, err := t.q.SetTemplatePublic(ctx, db.SetTemplatePublicParams{ID: string(id), Public: public}); err != nil {
		return templates.Template{}, faultOf(err)
	}
	return t.GetTemplate(ctx, string(id))
}

// DeleteTemplate implements templates.Store.
func (t Templates) DeleteTemplate(ctx context.Context, id templates.ID) ([]sandbox.SnapshotID, error) {
	var out []sandbox.SnapshotID
	err := t.locked(ctx, func(q *db.Queries) error {
		snaps, err := q.SnapshotsOfBuilds(ctx, string(id))
		if err != nil {
			return err
		}
		out = snapshotIDs(snaps)
		n, err := q.DeleteTemplate(ctx, string(id))
		if err == nil && n == 0 {
			err = templates.NotFound(string(id))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func snapshotIDs(ids []string) []sandbox.SnapshotID {
	out := make([]sandbox.SnapshotID, len(ids))
	for i, id := range ids {
		out[i] = sandbox.SnapshotID(id)
	}
	return out
}

// CountSpawn implements templates.Store.
func (t Templates) CountSpawn(ctx context.Context, id templates.ID) error {
	return faultOf(t.q.CountSpawn(ctx, string(id)))
}

// Tags implements templates.Store.
func (t Templates) Tags(ctx context.Context, id templates.ID) ([]templates.Tag, error) {
	rows, err := t.q.TagsOfTemplates(ctx, []string{string(id)})
	if err != nil {
		return nil, faultOf(err)
	}
	out := make([]templates.Tag, 0, len(rows))
	for _, r := range rows {
		out = append(out, fromTag(r))
	}
	return out, nil
}

// SetTags implements templates.Store.
func (t Templates) SetTags(ctx context.Context, id templates.ID, build templates.BuildID, tags []string) error {
	return t.locked(ctx, func(q *db.Queries) error {
		row, err := q.GetBuild(ctx, string(build))
		switch b := fromBuild(row); {
		case errors.Is(err, pgx.ErrNoRows), err == nil && b.Template != id:
			return templates.BuildNotFound(build)
		case err != nil:
			return err
		case b.Status != templates.Ready:
			return templates.WrongBuild(b, templates.Ready)
		case b.Snapshot == "":
			return templates.SnapshotGone(build)
		}
		if err := checkTags(ctx, q, string(id), tags); err != nil {
			return err
		}
		if err := q.SetTags(ctx, db.SetTagsParams{TemplateID: string(id), BuildID: string(build), Names: sortedSet(tags)}); err != nil {
			return err
		}
		return q.TouchTemplate(ctx, string(id))
	})
}

// sortedSet returns the different strings of list. One statement must not write a row twice.
func sortedSet(list []string) []string {
	out := append([]string{}, list...)
	slices.Sort(out)
	return slices.Compact(out)
}

// RemoveTags implements templates.Store.
func (t Templates) RemoveTags(ctx context.Context, id templates.ID, tags []string) error {
	return t.locked(ctx, func(q *db.Queries) error {
		tmpl, err := getTemplate(ctx, q, string(id))
		if err != nil {
			return err
		}
		for _, tag := range tags {
			if !slices.ContainsFunc(tmpl.Tags, func(have templates.Tag) bool { return have.Name == tag }) {
				return templates.TagNotFound(tmpl.Name, tag)
			}
		}
		if err := q.RemoveTags(ctx, db.RemoveTagsParams{TemplateID: string(id), Names: append([]string{}, tags...)}); err != nil {
			return err
		}
		return q.TouchTemplate(ctx, string(id))
	})
}

// Expire implements templates.Store.
func (t Templates) Expire(ctx context.Context, e templates.Expiry) ([]sandbox.SnapshotID, error) {
	var out []sandbox.SnapshotID
	err := t.locked(ctx, func(q *db.Queries) error {
		rows, err := q.UnneededBuilds(ctx, db.UnneededBuildsParams{Keep: int64(e.Keep), AgeSec: e.Untagged.Seconds()})
		if err != nil {
			return err
		}
		stray, err := q.StraySnapshots(ctx, e.Stray.Seconds())
		if err != nil {
			return err
		}
		out = snapshotIDs(stray)
		ids := make([]string, 0, len(rows))
		for _, r := range rows {
			ids, out = append(ids, r.ID), append(out, sandbox.SnapshotID(r.SnapshotID))
		}
		if err := q.ForgetBuildSnapshots(ctx, ids); err != nil {
			return err
		}
		if err := q.FailWaitingBuilds(ctx, db.FailWaitingBuildsParams{Message: templates.Abandoned, AgeSec: e.Waiting.Seconds()}); err != nil {
			return err
		}
		return q.DeleteOldBuilds(ctx, templates.KeptBuilds)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// FindLayer implements templates.Store.
func (t Templates) FindLayer(ctx context.Context, keys []string, made templates.BuildID) (templates.Layer, bool, error) {
	row, err := t.q.FindLayer(ctx, db.FindLayerParams{Keys: append([]string{}, keys...), Made: string(made)})
	if errors.Is(err, pgx.ErrNoRows) {
		return templates.Layer{}, false, nil
	}
	return fromLayer(row), err == nil, faultOf(err)
}

// InsertLayer implements templates.Store.
func (t Templates) InsertLayer(ctx context.Context, l templates.Layer) (sandbox.SnapshotID, error) {
	var unneeded sandbox.SnapshotID
	err := t.locked(ctx, func(q *db.Queries) error {
		switch have, err := q.GetLayer(ctx, l.Key); {
		case err == nil && have.SnapshotID != string(l.Snapshot):
			unneeded = sandbox.SnapshotID(have.SnapshotID)
		case err != nil && !errors.Is(err, pgx.ErrNoRows):
			return err
		}
		return q.PutLayer(ctx, db.PutLayerParams{
			Key: l.Key, SnapshotID: string(l.Snapshot), HostID: l.HostID, BuildID: string(l.Build), Bytes: int64(min(l.Bytes, math.MaxInt64)),
		})
	})
	if err != nil {
		return "", err
	}
	return unneeded, nil
}

// RemoveLayer implements templates.Store.
func (t Templates) RemoveLayer(ctx context.Context, key string, snapshot sandbox.SnapshotID) error {
	return t.locked(ctx, func(q *db.Queries) error {
		return q.RemoveLayer(ctx, db.RemoveLayerParams{Key: key, SnapshotID: string(snapshot)})
	})
}

// TrimLayers implements templates.Store.
func (t Templates) TrimLayers(ctx context.Context, count int, bytes uint64) ([]sandbox.SnapshotID, error) {
	var out []sandbox.SnapshotID
	err := t.locked(ctx, func(q *db.Queries) error {
		ids, err := q.TrimLayers(ctx, db.TrimLayersParams{Count: int64(count), Bytes: int64(min(bytes, math.MaxInt64))})
		out = snapshotIDs(ids)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func fromLayer(r db.TemplateLayer) templates.Layer {
	return templates.Layer{
		Key: r.Key, Snapshot: sandbox.SnapshotID(r.SnapshotID), HostID: r.HostID, Build: templates.BuildID(r.BuildID),
		Bytes: uint64(r.Bytes), CreatedAt: r.CreatedAt.UTC(), UsedAt: r.UsedAt.UTC(),
	}
}

// planJSON and planFrom are the two sides of the column plan.
func planJSON(p plan.Plan) ([]byte, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "internal", "the plan cannot be stored")
	}
	return b, nil
}

func planFrom(b []byte) (plan.Plan, error) {
	var p plan.Plan
	if err := json.Unmarshal(b, &p); err != nil {
		return p, templates.PlanUnreadable(err)
	}
	return p, nil
}

// ResolveTemplate implements control.Store.
func (s *Store) ResolveTemplate(ctx context.Context, name, tag string) (control.ResolvedTemplate, error) {
	tmpl, err := s.Templates().GetTemplate(ctx, name)
	if err != nil {
		return control.ResolvedTemplate{}, err
	}
	b, err := s.Templates().FindBuild(ctx, tmpl.ID, tag)
	switch {
	case err == nil:
		return tmpl.Resolved(&b), nil
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
