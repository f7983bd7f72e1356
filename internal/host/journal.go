package host

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/network"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/linux/durable"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// recordVersion is the version of the journal's format. A record of a newer
// version is refused, an older one would be converted here.
const recordVersion = 2

// maxRecordBytes bounds a record; it holds the user's env, at most 64 KiB.
const maxRecordBytes = 1 << 20

// record is all that is known of a machine, as it stands on disk. It holds
// secrets (token, env) and is readable by root alone.
type record struct {
	Version    int                `json:"version"`
	ID         sandbox.ID         `json:"id"`
	Generation sandbox.Generation `json:"generation"`
	Spec       sandbox.Spec       `json:"spec"`
	// State is the last settled one: pending, running, paused or stopped.
	State sandbox.State `json:"state"`
	// Op and Step name the operation under way and the step begun last; both
	// are empty when the machine is settled.
	Op   string `json:"op,omitempty"`
	Step string `json:"step,omitempty"`

	StopReason sandbox.StopReason `json:"stop_reason,omitempty"`
	StopDetail string             `json:"stop_detail,omitempty"`

	// Pooled marks a warm clone that no sandbox has taken yet.
	Pooled bool `json:"pooled,omitempty"`
	// Source says how the machine was made, SnapshotID from which snapshot.
	Source     Source             `json:"source,omitempty"`
	SnapshotID sandbox.SnapshotID `json:"snapshot_id,omitempty"`

	TemplateDigest string `json:"template_digest,omitempty"`
	RootImage      string `json:"root_image,omitempty"`
	// Base is the directory of the snapshot whose memory the machine's is
	// based on, for all of its life.
	Base string `json:"base,omitempty"`

	Network *network.Record `json:"network,omitempty"`
	VM      *vmm.Record     `json:"vm,omitempty"`
	// Snapshot is the directory of the pause, below the machine's own: memory
	// difference, device state and manifest.
	Snapshot string `json:"snapshot,omitempty"`
	// Token is the guest's access token, NextToken the one that a Configure
	// under way replaces it with.
	Token     string `json:"token,omitempty"`
	NextToken string `json:"next_token,omitempty"`
	// Forced: the machine was paused without its guest's help, which has not
	// been renewed since. SilentSince is since when the guest had not answered
	// when it was paused.
	Forced      bool      `json:"forced,omitempty"`
	SilentSince time.Time `json:"silent_since,omitzero"`
	// RestoreReport is that of the last start.
	RestoreReport *sandbox.RestoreReport `json:"restore_report,omitempty"`
	// LifetimeEnd is when the lifetime clock runs out; zero is never.
	LifetimeEnd time.Time `json:"lifetime_end,omitzero"`

	GuestIP    string    `json:"guest_ip,omitempty"`
	HostIP     string    `json:"host_ip,omitempty"`
	CreatedAt  time.Time `json:"created_at"`
	StartedAt  time.Time `json:"started_at,omitzero"`
	LastActive time.Time `json:"last_active,omitzero"`
	EndedAt    time.Time `json:"ended_at,omitzero"`
}

// Source is how a machine was made.
type Source string

// The sources.
const (
	SourcePool    Source = "pool"    // a warm clone was waiting
	SourceRestore Source = "restore" // a clone of a template snapshot
	SourceFork    Source = "fork"    // a copy of a snapshot of a sandbox
)

// relocate replaces the paths that were stored under an earlier format.
func (r *record) relocate(l layout) {
	r.Base = l.today(r.Base)
	if r.VM != nil {
		r.VM.Dir, r.VM.MemoryFile = l.today(r.VM.Dir), l.today(r.VM.MemoryFile)
	}
}

func (r *record) ref() sandbox.Ref { return sandbox.Ref{ID: r.ID, Generation: r.Generation} }

const recordName = "record.json"

// writeRecord replaces the record in dir atomically. After the agent was killed,
// the old or the new record is there whole without a sync, because the page cache
// survives it. A crash of the host ends every VM, so that only the files of a
// paused sandbox have to be on the disk: durably syncs file and directory.
func writeRecord(dir string, r *record, durably bool) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, recordName)
	if durably {
		return durable.WriteFile(path, data, 0o600)
	}
	return durable.Replace(path, data, 0o600)
}

// readRecord reads the record in dir. It is os.ErrNotExist where there is none.
func readRecord(dir string) (*record, error) {
	path := filepath.Join(dir, recordName)
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxRecordBytes {
		return nil, fmt.Errorf("%s has %d bytes, more than a record can have", path, st.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r, err := parseRecord(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	switch {
	case r.Version > recordVersion:
		return nil, errNewerData(fmt.Sprintf("the journal record %s has format %d", path, r.Version), recordVersion)
	case r.Version < recordVersion:
		return nil, fmt.Errorf("%s has version %d; this agent knows %d", path, r.Version, recordVersion)
	}
	return r, nil
}

// parseRecord decodes a record. Version 0.1 stored the restore report as
// "hygiene"; the next write of the record stores it under its new name.
func parseRecord(data []byte) (*record, error) {
	var r struct {
		record
		OldReport *sandbox.RestoreReport `json:"hygiene"`
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, err
	}
	if r.RestoreReport == nil {
		r.RestoreReport = r.OldReport
	}
	return &r.record, nil
}
