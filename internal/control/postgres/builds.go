package postgres

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/db"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// GetBuild implements templates.Store.
func (t Templates) GetBuild(ctx context.Context, id templates.BuildID) (templates.Build, error) {
	row, err := t.q.GetBuild(ctx, string(id))
	return buildOr(row, err, func() error { return templates.BuildNotFound(id) })
}

// FindBuild implements templates.Store.
func (t Templates) FindBuild(ctx context.Context, id templates.ID, tag string) (templates.Build, error) {
	tagged, err := t.q.TaggedBuild(ctx, db.TaggedBuildParams{TemplateID: string(id), Tag: tag})
	row := db.GetBuildRow(tagged)
	if errors.Is(err, pgx.ErrNoRows) {
		if row, err = t.q.GetBuild(ctx, tag); err == nil && row.TemplateID != string(id) {
			err = pgx.ErrNoRows
		}
	}
	return buildOr(row, err, func() error {
		tmpl, err := t.GetTemplate(ctx, string(id))
		if err != nil {
			return err
		}
		return templates.TagNotFound(tmpl.Name, tag)
	})
}

// buildOr is fromBuild for the answer of a query for one row. notFound returns the error
// if there is none.
func buildOr(row db.GetBuildRow, err error, notFound func() error) (templates.Build, error) {
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return templates.Build{}, notFound()
	case err != nil:
		return templates.Build{}, faultOf(err)
	}
	return fromBuild(row), nil
}

// Builds implements templates.Store.
func (t Templates) Builds(ctx context.Context, id templates.ID, limit int) ([]templates.Build, error) {
	rows, err := t.q.BuildsOfTemplate(ctx, db.BuildsOfTemplateParams{TemplateID: string(id), MaxRows: int32(min(max(limit, 0), maxList))})
	out := make([]templates.Build, 0, len(rows))
	for _, r := range rows {
		out = append(out, fromBuild(db.GetBuildRow(r)))
	}
	return out, faultOf(err)
}

// StartBuild implements templates.Store.
func (t Templates) StartBuild(
	ctx context.Context, id templates.BuildID, p plan.Plan, server control.ServerID, hasInputs bool,
) (templates.Build, []templates.BuildID, error) {
	text, err := planJSON(p)
	if err != nil {
		return templates.Build{}, nil, err
	}
	var started templates.Build
	var superseded []templates.BuildID
	err = t.locked(ctx, func(q *db.Queries) error {
		_, startErr := q.StartBuild(ctx, db.StartBuildParams{ID: string(id), Plan: text, HasInputs: hasInputs, Server: int64(server)})
		if startErr != nil && !errors.Is(startErr, pgx.ErrNoRows) {
			return startErr
		}
		row, err := q.GetBuild(ctx, string(id))
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return templates.BuildNotFound(id)
		case err != nil:
			return err
		case startErr != nil:
			return templates.WrongBuild(fromBuild(row), templates.Waiting)
		}
		started = fromBuild(row)
		ids, err := q.SupersedeBuilds(ctx, db.SupersedeBuildsParams{
			TemplateID: row.TemplateID, ID: row.ID, Message: templates.Superseded,
		})
		for _, id := range ids {
			superseded = append(superseded, templates.BuildID(id))
		}
		return err
	})
	if err != nil {
		return templates.Build{}, nil, err
	}
	return started, superseded, nil
}

// Progress implements templates.Store.
func (t Templates) Progress(ctx context.Context, id templates.BuildID, server control.ServerID, step, steps int) error {
	n, err := t.q.ProgressBuild(ctx, db.ProgressBuildParams{ID: string(id), Server: int64(server), Step: int32(step), Steps: int32(steps)})
	if err != nil || n > 0 {
		return faultOf(err)
	}
	b, err := t.GetBuild(ctx, id)
	if err != nil {
		return err
	}
	return templates.NotOurs(b)
}

// FinishBuild implements templates.Store.
func (t Templates) FinishBuild(ctx context.Context, b templates.Build, server control.ServerID) (bool, error) {
	p := db.FinishBuildParams{
		ID: string(b.ID), Status: string(b.Status), SnapshotID: string(b.Snapshot), HostID: b.HostID,
		DefaultUser: b.User, DefaultDir: b.Workdir, Step: int32(b.Step), Steps: int32(b.Steps),
		Vcpus: int32(b.VCPUs), MemoryMb: int32(b.MemoryMB), DiskMb: int32(b.DiskMB), Server: int64(server),
	}
	var err error
	if p.Env, err = json.Marshal(b.Env); err != nil || b.Env == nil {
		p.Env = []byte("{}")
	}
	if b.Reason != nil {
		r := b.Reason.Storable()
		p.ReasonMessage, p.ReasonStep = &r.Message, r.Step
	}
	won := false
	err = t.locked(ctx, func(q *db.Queries) error {
		row, err := q.FinishBuild(ctx, p)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		won = true
		if b.Status == templates.Ready {
			err = q.SetTags(ctx, db.SetTagsParams{TemplateID: row.TemplateID, BuildID: p.ID, Names: sortedSet(row.Tags)})
			if err != nil {
				return err
			}
		}
		return q.TouchTemplate(ctx, row.TemplateID)
	})
	return won && err == nil, err
}

// FailBuild implements templates.Store.
func (t Templates) FailBuild(ctx context.Context, id templates.BuildID, server control.ServerID, r templates.Reason) (bool, error) {
	r = r.Storable()
	n, err := t.q.FailBuild(ctx, db.FailBuildParams{ID: string(id), Server: int64(server), Message: r.Message, Step: r.Step})
	return n > 0, faultOf(err)
}

// Orphans implements templates.Store. Of several servers that call it at once, one gets
// each build.
func (t Templates) Orphans(ctx context.Context, server control.ServerID) ([]templates.BuildID, error) {
	under, err := t.q.BuildsUnderWay(ctx, int64(server))
	if err != nil || len(under) == 0 {
		return nil, faultOf(err)
	}
	servers := make([]control.ServerID, len(under))
	for i, b := range under {
		servers[i] = control.ServerID(b.Server)
	}
	live, err := t.liveSet(ctx, servers)
	if err != nil {
		return nil, err
	}
	var out []templates.BuildID
	for _, b := range under {
		if live[control.ServerID(b.Server)] {
			continue
		}
		n, err := t.q.ClaimBuild(ctx, db.ClaimBuildParams{ID: b.ID, Server: int64(server), WasServer: b.Server})
		if err != nil {
			return out, faultOf(err)
		}
		if n > 0 {
			out = append(out, templates.BuildID(b.ID))
		}
	}
	return out, nil
}

// Owned implements templates.Store.
func (t Templates) Owned(ctx context.Context, server control.ServerID) ([]templates.BuildID, error) {
	ids, err := t.q.OwnedBuilds(ctx, int64(server))
	if err != nil {
		return nil, faultOf(err)
	}
	out := make([]templates.BuildID, len(ids))
	for i, id := range ids {
		out[i] = templates.BuildID(id)
	}
	return out, nil
}

// OwnedBuild implements templates.Store.
func (t Templates) OwnedBuild(ctx context.Context, id templates.BuildID, server control.ServerID) (templates.OwnedBuild, bool, error) {
	row, err := t.q.OwnedPlan(ctx, db.OwnedPlanParams{ID: string(id), Server: int64(server)})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return templates.OwnedBuild{}, false, nil
	case err != nil:
		return templates.OwnedBuild{}, false, faultOf(err)
	}
	p, err := planFrom(row.Plan)
	if err != nil {
		return templates.OwnedBuild{}, false, err
	}
	// The build may end in between. Every write of the caller is fenced, so that this does no harm.
	b, err := t.GetBuild(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return templates.OwnedBuild{}, false, nil
	}
	return templates.OwnedBuild{Build: b, Plan: p, HasInputs: row.HasInputs}, err == nil, err
}

func (t Templates) liveSet(ctx context.Context, servers []control.ServerID) (map[control.ServerID]bool, error) {
	live, err := t.store.LiveServers(ctx, servers)
	set := make(map[control.ServerID]bool, len(live))
	for _, id := range live {
		set[id] = true
	}
	return set, err
}

// AppendLogs implements templates.Store.
func (t Templates) AppendLogs(ctx context.Context, id templates.BuildID, server control.ServerID, entries []templates.LogEntry) error {
	return t.store.inTx(ctx, func(q *db.Queries) error {
		row, err := q.LockBuildLog(ctx, string(id))
		if errors.Is(err, pgx.ErrNoRows) {
			return templates.BuildNotFound(id)
		}
		if err != nil {
			return err
		}
		if row.Server != int64(server) {
			b, err := q.GetBuild(ctx, string(id))
			if err != nil {
				return err
			}
			return templates.NotOurs(fromBuild(b))
		}
		was := templates.LogSize{Entries: row.LogEntries, Bytes: row.LogBytes, Full: row.LogFull}
		kept, size := was.Admit(entries)
		if len(kept) == 0 {
			return nil
		}
		p := db.InsertBuildLogsParams{BuildID: string(id)}
		for _, e := range kept {
			p.Seqs, p.Times = append(p.Seqs, e.Seq), append(p.Times, e.At)
			p.Levels, p.Steps, p.Messages = append(p.Levels, e.Level), append(p.Steps, e.Step), append(p.Messages, e.Message)
		}
		if err := q.InsertBuildLogs(ctx, p); err != nil {
			return err
		}
		return q.MeasureBuildLog(ctx, db.MeasureBuildLogParams{
			ID: string(id), LogEntries: size.Entries, LogBytes: size.Bytes, LogFull: size.Full,
		})
	})
}

// Logs implements templates.Store.
func (t Templates) Logs(ctx context.Context, id templates.BuildID, seq int64, limit int) ([]templates.LogEntry, error) {
	rows, err := t.q.BuildLogs(ctx, db.BuildLogsParams{BuildID: string(id), After: seq, MaxRows: int32(min(max(limit, 0), maxList))})
	if err != nil {
		return nil, faultOf(err)
	}
	out := make([]templates.LogEntry, 0, len(rows))
	for _, r := range rows {
		out = append(out, templates.LogEntry{Seq: r.Seq, At: r.At.UTC(), Level: r.Level, Step: r.Step, Message: r.Message})
	}
	return out, nil
}

// fromBuild is the reading side of the statements that write builds.
func fromBuild(r db.GetBuildRow) templates.Build {
	b := templates.Build{
		ID: templates.BuildID(r.ID), Template: templates.ID(r.TemplateID), Status: templates.BuildStatus(r.Status), Tags: r.Tags,
		VCPUs: int(r.Vcpus), MemoryMB: int(r.MemoryMb), DiskMB: int(r.DiskMb), Runtime: sandbox.Runtime(r.Runtime),
		Snapshot: sandbox.SnapshotID(r.SnapshotID), HostID: r.HostID, User: r.DefaultUser, Workdir: r.DefaultDir,
		Step: int(r.Step), Steps: int(r.Steps),
		CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(), StartedAt: utc(r.StartedAt), FinishedAt: utc(r.FinishedAt),
	}
	// An empty object stays nil. Only this program writes the column.
	if err := json.Unmarshal(r.Env, &b.Env); err != nil || len(b.Env) == 0 {
		b.Env = nil
	}
	if r.ReasonMessage != nil {
		b.Reason = &templates.Reason{Message: *r.ReasonMessage, Step: r.ReasonStep}
	}
	return b
}
