package postgres

import (
	"encoding/json"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/db"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// insertParams returns the columns of a new row.
func insertParams(row control.Sandbox) (db.InsertSandboxParams, error) {
	metadata, err := metadataJSON(row.Metadata)
	if err != nil {
		return db.InsertSandboxParams{}, err
	}
	return db.InsertSandboxParams{
		ID: string(row.ID), Generation: int64(row.Generation), State: string(row.State),
		Template: row.Spec.Template, Vcpus: int32(row.Spec.VCPUs),
		MemoryMb: int32(row.Spec.MemoryMB), DiskMb: int32(row.Spec.DiskMB),
		// Rounded up: zero means never.
		TimeoutSec:   int32((row.Spec.Timeout + time.Second - 1) / time.Second),
		MinIsolation: string(row.Spec.MinIsolation), Metadata: metadata,
		HostID: row.HostID, Acceleration: row.Acceleration, Isolation: string(row.Isolation),
	}, nil
}

// moveParams returns the columns that m changes and the ones that it compares.
func moveParams(m control.Move) db.MoveSandboxParams {
	p := db.MoveSandboxParams{
		ID: string(m.Ref.ID), Generation: int64(m.Ref.Generation), FromState: string(m.From),
		ToState: string(m.To), NextGeneration: int64(m.Next()), Ended: m.To.Ended(),
		StopReason: optional(string(m.StopReason)), Message: optional(m.Message),
	}
	if f := m.Facts; f != nil {
		p.GuestIp, p.HostIp = optional(f.GuestIP), optional(f.HostIP)
		p.Acceleration, p.Isolation = optional(f.Acceleration), optional(string(f.Isolation))
		if !f.StartedAt.IsZero() {
			p.StartedAt = &f.StartedAt
		}
	}
	return p
}

// fromRow is the reading side of insertParams and moveParams.
func fromRow(r db.Sandbox) (control.Sandbox, error) {
	row := control.Sandbox{
		ID: sandbox.ID(r.ID), Generation: sandbox.Generation(r.Generation), State: sandbox.State(r.State),
		Spec: sandbox.Spec{
			Template: r.Template, VCPUs: int(r.Vcpus), MemoryMB: int(r.MemoryMb), DiskMB: int(r.DiskMb),
			Timeout:      time.Duration(r.TimeoutSec) * time.Second,
			MinIsolation: sandbox.Isolation(r.MinIsolation),
		},
		HostID: r.HostID, GuestIP: r.GuestIp, HostIP: r.HostIp,
		Acceleration: r.Acceleration, Isolation: sandbox.Isolation(r.Isolation),
		Message: r.Message, CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(),
		StartedAt: utc(r.StartedAt), LastActiveAt: utc(r.LastActiveAt), EndedAt: utc(r.EndedAt),
	}
	if r.StopReason != nil {
		row.StopReason = sandbox.StopReason(*r.StopReason)
	}
	if err := json.Unmarshal(r.Metadata, &row.Metadata); err != nil {
		return control.Sandbox{}, fault.Wrap(err, fault.Internal, "database_error", "the sandbox's metadata cannot be read")
	}
	return row, nil
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

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}
