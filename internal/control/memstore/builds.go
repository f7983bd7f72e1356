package memstore

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// buildRow is a build with the columns that [templates.Build] does not have.
type buildRow struct {
	build     templates.Build
	plan      []byte
	hasInputs bool
	server    control.ServerID
	logs      []templates.LogEntry
	size      templates.LogSize
}

// copy returns the build. It shares nothing that can be changed.
func (r *buildRow) copy() templates.Build {
	b := r.build
	b.Tags = slices.Clone(b.Tags)
	b.StartedAt, b.FinishedAt = storedPointer(b.StartedAt), storedPointer(b.FinishedAt)
	if b.Reason != nil {
		reason := *b.Reason
		b.Reason = &reason
	}
	return b
}

// end moves the build to a final status. The caller holds mu.
func (r *buildRow) end(status templates.BuildStatus, reason *templates.Reason, now time.Time) {
	r.build.Status, r.build.UpdatedAt, r.build.FinishedAt = status, now, &now
	if reason != nil {
		kept := reason.Storable()
		r.build.Reason = &kept
	}
}

// build returns the row of a build. The caller holds mu.
func (s *Store) build(id templates.BuildID) (*buildRow, error) {
	i := slices.IndexFunc(s.tmpl.builds, func(r *buildRow) bool { return r.build.ID == id })
	if i < 0 {
		return nil, templates.BuildNotFound(id)
	}
	return s.tmpl.builds[i], nil
}

// GetBuild implements templates.Store.
func (t Templates) GetBuild(_ context.Context, id templates.BuildID) (templates.Build, error) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	row, err := t.s.build(id)
	if err != nil {
		return templates.Build{}, err
	}
	return row.copy(), nil
}

// FindBuild implements templates.Store.
func (t Templates) FindBuild(_ context.Context, id templates.ID, tag string) (templates.Build, error) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	row, err := t.s.findBuild(id, tag)
	if err != nil {
		return templates.Build{}, err
	}
	return row.copy(), nil
}

// findBuild finds a build by tag, else by id. The caller holds mu.
func (s *Store) findBuild(id templates.ID, tag string) (*buildRow, error) {
	named := templates.BuildID(tag)
	if t, found := s.tmpl.tags[id][tag]; found {
		named = t.Build
	}
	row, err := s.build(named)
	if err == nil && row.build.Template == id {
		return row, nil
	}
	tmpl, err := s.getTemplate(string(id))
	if err != nil {
		return nil, err
	}
	return nil, templates.TagNotFound(tmpl.Name, tag)
}

// Builds implements templates.Store.
func (t Templates) Builds(_ context.Context, id templates.ID, limit int) ([]templates.Build, error) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	out := []templates.Build{}
	for _, row := range slices.Backward(t.s.tmpl.builds) {
		if row.build.Template == id && len(out) < limit {
			out = append(out, row.copy())
		}
	}
	return out, nil
}

// StartBuild implements templates.Store.
func (t Templates) StartBuild(
	_ context.Context, id templates.BuildID, p plan.Plan, server control.ServerID, hasInputs bool,
) (templates.Build, []templates.BuildID, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return templates.Build{}, nil, fault.Wrap(err, fault.Internal, "internal", "the plan cannot be stored")
	}
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	row, err := t.s.build(id)
	if err != nil {
		return templates.Build{}, nil, err
	}
	if row.build.Status != templates.Waiting {
		return templates.Build{}, nil, templates.WrongBuild(row.build, templates.Waiting)
	}
	now := t.s.timestamp()
	var superseded []templates.BuildID
	for _, other := range t.s.tmpl.builds {
		if other.build.Template == row.build.Template && other.build.Status == templates.Building {
			other.end(templates.Failed, &templates.Reason{Message: templates.Superseded}, now)
			superseded = append(superseded, other.build.ID)
		}
	}
	row.build.Status, row.build.UpdatedAt, row.build.StartedAt = templates.Building, now, &now
	row.plan, row.server, row.hasInputs = text, server, hasInputs
	return row.copy(), superseded, nil
}

// Progress implements templates.Store.
func (t Templates) Progress(_ context.Context, id templates.BuildID, server control.ServerID, step, steps int) error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	row, err := t.s.build(id)
	if err != nil {
		return err
	}
	if row.build.Status != templates.Building || row.server != server {
		return templates.NotOurs(row.build)
	}
	row.build.Step, row.build.Steps, row.build.UpdatedAt = step, steps, t.s.timestamp()
	return nil
}

// FinishBuild implements templates.Store.
func (t Templates) FinishBuild(_ context.Context, b templates.Build, server control.ServerID) (bool, error) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	row, err := t.s.build(b.ID)
	if err != nil || row.build.Status != templates.Building || row.server != server {
		return false, nil
	}
	row.build.VCPUs, row.build.MemoryMB, row.build.DiskMB = b.VCPUs, b.MemoryMB, b.DiskMB
	row.build.Snapshot, row.build.HostID, row.build.User, row.build.Workdir = b.Snapshot, b.HostID, b.User, b.Workdir
	row.build.Env = maps.Clone(b.Env)
	row.build.Step, row.build.Steps = b.Step, b.Steps
	row.end(b.Status, b.Reason, t.s.timestamp())
	if b.Status == templates.Ready {
		t.s.setTags(row.build.Template, b.ID, row.build.Tags)
	}
	t.s.touchTemplate(row.build.Template)
	return true, nil
}

// FailBuild implements templates.Store.
func (t Templates) FailBuild(_ context.Context, id templates.BuildID, server control.ServerID, r templates.Reason) (bool, error) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	row, err := t.s.build(id)
	if err != nil || row.build.Status.Ended() || server != 0 && row.server != server {
		return false, nil
	}
	row.end(templates.Failed, &r, t.s.timestamp())
	return true, nil
}

// Orphans implements templates.Store.
func (t Templates) Orphans(_ context.Context, server control.ServerID) ([]templates.BuildID, error) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	var out []templates.BuildID
	for _, row := range t.s.tmpl.builds {
		if _, live := t.s.sessions[row.server]; live || row.server == server || row.build.Status != templates.Building {
			continue
		}
		row.server, row.build.UpdatedAt = server, t.s.timestamp()
		out = append(out, row.build.ID)
	}
	return out, nil
}

// Owned implements templates.Store.
func (t Templates) Owned(_ context.Context, server control.ServerID) ([]templates.BuildID, error) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	out := []templates.BuildID{}
	for _, row := range t.s.tmpl.builds {
		if row.build.Status == templates.Building && row.server == server {
			out = append(out, row.build.ID)
		}
	}
	return out, nil
}

// OwnedBuild implements templates.Store.
func (t Templates) OwnedBuild(_ context.Context, id templates.BuildID, server control.ServerID) (templates.OwnedBuild, bool, error) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	row, err := t.s.build(id)
	if err != nil || row.build.Status != templates.Building || row.server != server {
		return templates.OwnedBuild{}, false, nil
	}
	o, err := row.owned()
	return o, err == nil, err
}

// owned returns the build with its plan. The caller holds mu.
func (r *buildRow) owned() (templates.OwnedBuild, error) {
	o := templates.OwnedBuild{Build: r.copy(), HasInputs: r.hasInputs}
	if err := json.Unmarshal(r.plan, &o.Plan); err != nil {
		return o, templates.PlanUnreadable(err)
	}
	return o, nil
}

// AppendLogs implements templates.Store.
func (t Templates) AppendLogs(_ context.Context, id templates.BuildID, server control.ServerID, entries []templates.LogEntry) error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	row, err := t.s.build(id)
	if err != nil {
		return err
	}
	if row.server != server {
		return templates.NotOurs(row.build)
	}
	kept, size := row.size.Admit(entries)
	for i := range kept {
		kept[i].At = stored(kept[i].At)
	}
	row.logs, row.size = append(row.logs, kept...), size
	return nil
}

// Logs implements templates.Store.
func (t Templates) Logs(_ context.Context, id templates.BuildID, seq int64, limit int) ([]templates.LogEntry, error) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	out := []templates.LogEntry{}
	row, err := t.s.build(id)
	if err != nil {
		return out, nil
	}
	for _, e := range row.logs {
		if e.Seq > seq && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, nil
}
