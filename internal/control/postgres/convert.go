package postgres

import (
	"cmp"
	"encoding/json"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/db"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// insertParams returns the columns of new rows, of which there is at least one
// and which differ in their ids alone.
func insertParams(rows []control.Sandbox) (db.InsertSandboxesParams, error) {
	row, n := rows[0], int64(len(rows))
	metadata, err := metadataJSON(row.Metadata)
	if err != nil {
		return db.InsertSandboxesParams{}, err
	}
	spec, err := specJSON(row.Spec)
	if err != nil {
		return db.InsertSandboxesParams{}, err
	}
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = string(r.ID)
	}
	return db.InsertSandboxesParams{
		Ids: ids, Generation: int64(row.Generation), State: string(row.State),
		Template: row.Spec.Template, Vcpus: int32(row.Spec.VCPUs),
		MemoryMb: int32(row.Spec.MemoryMB), DiskMb: int32(row.Spec.DiskMB),
		TimeoutSec: seconds(row.Spec.Timeout), LifetimeSec: seconds(row.Spec.Lifetime),
		OnTimeout: string(row.Spec.OnTimeout), AutoResume: row.Spec.AutoResume,
		MinIsolation: string(row.Spec.MinIsolation), Metadata: metadata,
		HostID: row.HostID, Acceleration: row.Acceleration, Isolation: string(row.Isolation),
		SnapshotID: string(row.SnapshotID), ParentID: string(row.ParentID), Name: row.Name,
		Server: int64(row.Server), Spec: spec, BuildID: row.BuildID,
		OnHost: row.HostID, NeedVcpus: n * int64(row.Spec.VCPUs), NeedMemoryMb: n * int64(row.Spec.MemoryMB), Holding: holding,
	}, nil
}

// seconds rounds up: zero means never.
func seconds(d time.Duration) int32 { return int32((d + time.Second - 1) / time.Second) }

// moveParams returns the columns that m changes and the ones that it compares.
// The end of a lifetime stays while the sandbox is pausing, comes
// with the runtime information of a start, and goes with every other move.
func moveParams(m control.Move) (db.MoveSandboxParams, error) {
	p := db.MoveSandboxParams{
		ID: string(m.Ref.ID), Generation: int64(m.Ref.Generation), FromState: string(m.From),
		ToState: string(m.To), NextGeneration: int64(m.Next()), Ended: m.To.Ended(),
		StopReason: optional(string(m.StopReason)), Message: optional(m.Message),
		KeepLifetime: m.To == sandbox.Pausing || m.To == sandbox.Running && m.Runtime == nil,
		Relaxed:      m.To == sandbox.Pausing, // nothing is acknowledged by it
		Server:       int64(m.Server),
		ActiveAt:     optionalTime(m.ActiveAt),
	}
	f := m.Runtime
	if f == nil {
		return p, nil
	}
	p.GuestIp, p.HostIp = optional(f.GuestIP), optional(f.HostIP)
	p.Acceleration, p.Isolation = optional(f.Acceleration), optional(string(f.Isolation))
	p.StartedAt, p.LifetimeEndsAt = optionalTime(f.StartedAt), optionalTime(f.LifetimeEndsAt)
	p.Source = optional(f.Source)
	var err error
	p.RestoreReport, err = restoreReportJSON(f.RestoreReport)
	return p, err
}

// fromRow is the reading side of insertParams and moveParams.
func fromRow(r db.Sandbox) (control.Sandbox, error) {
	spec, err := specFrom(r)
	if err != nil {
		return control.Sandbox{}, err
	}
	row := control.Sandbox{
		ID: sandbox.ID(r.ID), Name: r.Name, Generation: sandbox.Generation(r.Generation), State: sandbox.State(r.State), Spec: spec,
		SnapshotID: sandbox.SnapshotID(r.SnapshotID), ParentID: sandbox.ID(r.ParentID), Source: r.Source,
		LifetimeEndsAt: utc(r.LifetimeEndsAt),
		HostID:         r.HostID, GuestIP: r.GuestIp, HostIP: r.HostIp,
		Acceleration: r.Acceleration, Isolation: sandbox.Isolation(r.Isolation),
		Message: r.Message, CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(),
		StartedAt: utc(r.StartedAt), LastActiveAt: utc(r.LastActiveAt), EndedAt: utc(r.EndedAt),
		Server: control.ServerID(r.Server), DiskFull: r.DiskFull, BuildID: r.BuildID,
	}
	if r.StopReason != nil {
		row.StopReason = sandbox.StopReason(*r.StopReason)
	}
	if err := json.Unmarshal(r.Metadata, &row.Metadata); err != nil {
		return control.Sandbox{}, fault.Wrap(err, fault.Internal, "database_error", "the sandbox's metadata cannot be read")
	}
	row.RestoreReport, err = restoreReportFrom(r.RestoreReport)
	return row, err
}

// specJSON returns the document of s, without its environment, which is secret, and
// without the token that a host gets, which is derived.
func specJSON(s sandbox.Spec) ([]byte, error) {
	s.Env, s.EnvdToken = nil, ""
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "internal", "the sandbox's spec cannot be stored")
	}
	return b, nil
}

// egressJSON returns e as specJSON writes it.
func egressJSON(e sandbox.Egress) ([]byte, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "internal", "the sandbox's limits cannot be stored")
	}
	return b, nil
}

// specFrom returns the spec of r: its document, with the columns over it. The
// document of a row that an earlier version wrote is empty.
func specFrom(r db.Sandbox) (sandbox.Spec, error) {
	var s sandbox.Spec
	if err := json.Unmarshal(r.Spec, &s); err != nil {
		return s, fault.Wrap(err, fault.Internal, "database_error", "the sandbox's spec cannot be read")
	}
	s.Template, s.VCPUs, s.MemoryMB, s.DiskMB = r.Template, int(r.Vcpus), int(r.MemoryMb), int(r.DiskMb)
	s.Timeout, s.Lifetime = time.Duration(r.TimeoutSec)*time.Second, time.Duration(r.LifetimeSec)*time.Second
	s.OnTimeout, s.AutoResume = sandbox.TimeoutAction(r.OnTimeout), r.AutoResume
	s.MinIsolation = sandbox.Isolation(r.MinIsolation)
	s.Runtime = cmp.Or(s.Runtime, sandbox.RuntimeMicroVM) // the only one of earlier versions
	return s, nil
}

func fromRows(stored []db.Sandbox) ([]control.Sandbox, error) {
	rows := make([]control.Sandbox, 0, len(stored))
	for _, r := range stored {
		row, err := fromRow(r)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// metadataJSON returns an object, also for nil.
func metadataJSON(m map[string]string) ([]byte, error) {
	if m == nil {
		return []byte("{}"), nil
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "internal", "the metadata cannot be stored")
	}
	return b, nil
}

// optional returns nil, which leaves a column as it is, for "".
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// optionalTime returns nil for the zero time.
func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}
