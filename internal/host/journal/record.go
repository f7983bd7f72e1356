package journal

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/network"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/linux/durable"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Version is the newest version of the record's format. A record of a newer version is
// refused; one older than oldestVersion would be converted here.
//
// A record has the oldest version whose agents understand it. Version 3 is that of
// sandboxes that boot, or have booted, from the disk of a pause, or whose start command runs
// again after a boot (see Record.format): an agent of version 2 ignores those fields, and
// would restore a memory that does not belong to the disk, or lose the start command.
const (
	Version       = 3
	oldestVersion = 2
)

// BootPrefix begins the name of the directory of a boot, which a record may have as its
// Base.
const BootPrefix = "boot-"

// maxRecordBytes bounds a record; it holds the user's env, at most 64 KiB, and a start
// command, at most 256 KiB, of which JSON may have six bytes for one.
const maxRecordBytes = 4 << 20

// Record holds the durable facts of one sandbox, warm clone or template build. It
// holds secrets (token, env), and its file is readable by root alone.
type Record struct {
	// Version is that of the file which the record was read from.
	Version    int                `json:"version"`
	ID         sandbox.ID         `json:"id"`
	Generation sandbox.Generation `json:"generation"`
	Spec       sandbox.Spec       `json:"spec"`
	// State is the last committed one: pending, running, paused or stopped.
	State sandbox.State `json:"state"`
	// Op and Step name the operation under way and the step begun last; both
	// are empty when no operation is under way.
	Op   string `json:"op,omitempty"`
	Step string `json:"step,omitempty"`

	StopReason sandbox.StopReason `json:"stop_reason,omitempty"`
	StopDetail string             `json:"stop_detail,omitempty"`

	// Pooled marks a warm clone that no sandbox has taken yet.
	Pooled bool `json:"pooled,omitempty"`
	// Source says how the sandbox was created, SnapshotID from which snapshot.
	Source     Source             `json:"source,omitempty"`
	SnapshotID sandbox.SnapshotID `json:"snapshot_id,omitempty"`

	// Instance is stored with its fields among those of the record.
	Instance

	// Pause is the name of the pause's directory, below the sandbox's own: a delta
	// of the driver, and its manifest.
	Pause string `json:"snapshot,omitempty"`
	// DiskOnly is true for a sandbox whose pause can only be resumed by a boot from its
	// disk. Boot is true while a resume boots, instead of restoring the pause.
	DiskOnly bool `json:"disk_only,omitempty"`
	Boot     bool `json:"boot,omitempty"`
	// Forced is true for a sandbox that was paused without its guest's help and
	// whose guest has not been renewed since. SilentSince is the time since which
	// the guest had not answered when it was paused.
	Forced      bool      `json:"forced,omitempty"`
	SilentSince time.Time `json:"silent_since,omitzero"`
	// Start, unless nil, is the start command of a template that a build has made. A boot
	// runs it again.
	Start *sandbox.StartCommand `json:"start,omitempty"`
	// SkipStart is true for a paused sandbox, or one that is being created, whose last boot
	// ended while the start commands of its template started. The next boot leaves them out.
	SkipStart bool `json:"skip_start,omitempty"`
	// LifetimeEnd is when the lifetime clock runs out; zero is never.
	LifetimeEnd time.Time `json:"lifetime_end,omitzero"`

	CreatedAt  time.Time `json:"created_at"`
	StartedAt  time.Time `json:"started_at,omitzero"`
	LastActive time.Time `json:"last_active,omitzero"`
	EndedAt    time.Time `json:"ended_at,omitzero"`
}

// Instance holds the durable facts of a VM and of the resources that it runs on.
// A sandbox that is created from a warm clone takes the clone's over whole.
type Instance struct {
	TemplateDigest string `json:"template_digest,omitempty"`
	RootImage      string `json:"root_image,omitempty"`
	// Base is the directory of the snapshot that the VM was restored from. Its
	// pauses hold differences from that snapshot, for all of its life.
	Base string `json:"base,omitempty"`

	Network *network.Record `json:"network,omitempty"`
	VM      *vmm.Record     `json:"vm,omitempty"`
	GuestIP string          `json:"guest_ip,omitempty"`
	HostIP  string          `json:"host_ip,omitempty"`
	// Token is the guest's access token, NextToken the one that a Configure
	// under way replaces it with.
	Token     string `json:"token,omitempty"`
	NextToken string `json:"next_token,omitempty"`
	// RestoreReport is the report of the last start.
	RestoreReport *sandbox.RestoreReport `json:"restore_report,omitempty"`
}

// Source says how a sandbox was created.
type Source string

// The sources.
const (
	SourcePool    Source = "pool"    // a warm clone was waiting
	SourceRestore Source = "restore" // a clone of a template snapshot
	SourceFork    Source = "fork"    // a copy of a snapshot of a sandbox
)

// Ref returns the sandbox's id and generation.
func (r *Record) Ref() sandbox.Ref { return sandbox.Ref{ID: r.ID, Generation: r.Generation} }

// Relocate replaces each stored path by the one that present returns for it. An
// earlier version of the agent may have given the files other places.
func (r *Record) Relocate(present func(path string) string) {
	r.Base = present(r.Base)
	if r.VM != nil {
		r.VM.Dir, r.VM.MemoryFile = present(r.VM.Dir), present(r.VM.MemoryFile)
	}
}

// FileName is the name of the record's file in the sandbox's directory.
const FileName = "record.json"

// IsFile reports whether a file called name in a sandbox's directory belongs to
// the journal: the record, or the temporary file of a write that was cut off.
func IsFile(name string) bool { return name == FileName || name == FileName+".tmp" }

// Write replaces the record in dir atomically. After the agent was killed, the
// old or the new record is complete, because the page cache survives it. A crash
// of the host ends every VM, and may leave the new name of a file without its
// content; see WritePause for the records that must outlive it.
func (r *Record) Write(dir string) error {
	data, err := r.encode()
	if err != nil {
		return err
	}
	return durable.Replace(filepath.Join(dir, FileName), data, 0o600)
}

// encode returns the content of the record's file.
func (r *Record) encode() ([]byte, error) {
	out := *r
	out.Version = r.format()
	return json.Marshal(&out)
}

// format is the oldest version of the format in which the record means the same.
func (r *Record) format() int {
	if r.DiskOnly || r.Boot || r.Start != nil || strings.HasPrefix(filepath.Base(r.Base), BootPrefix) {
		return 3
	}
	return oldestVersion
}

// Read reads the record in dir: that of the last Write, or of the last WritePause
// where a crash of the host has taken it. The error is os.ErrNotExist if there is
// none, ErrLost if a crash has taken the only one, and WrongState data_newer if a
// later version of the agent wrote it.
func Read(dir string) (*Record, error) {
	r, err := readFile(filepath.Join(dir, FileName))
	if !errors.Is(err, ErrLost) {
		return r, err
	}
	saved, savedErr := readFile(filepath.Join(dir, pauseFileName))
	if errors.Is(savedErr, os.ErrNotExist) {
		return nil, err
	}
	return saved, savedErr
}

// Lost reports whether dir holds a record without content.
func Lost(dir string) bool {
	_, err := readFile(filepath.Join(dir, FileName))
	return errors.Is(err, ErrLost)
}

func readFile(path string) (*Record, error) {
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
	if len(bytes.Trim(data, "\x00")) == 0 {
		return nil, fmt.Errorf("%s: %w", path, ErrLost)
	}
	r, err := parseRecord(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	switch {
	case r.Version > Version:
		return nil, ErrNewerData(fmt.Sprintf("the journal record %s has format %d", path, r.Version), Version)
	case r.Version < oldestVersion:
		return nil, fmt.Errorf("%s has version %d; this agent knows %d to %d", path, r.Version, oldestVersion, Version)
	}
	return r, nil
}

// parseRecord decodes a record. Version 0.1 stored the restore report as
// "hygiene"; the next write of the record stores it under its new name.
func parseRecord(data []byte) (*Record, error) {
	var r struct {
		Record
		OldReport *sandbox.RestoreReport `json:"hygiene"`
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, err
	}
	if r.RestoreReport == nil {
		r.RestoreReport = r.OldReport
	}
	r.Spec.Runtime = cmp.Or(r.Spec.Runtime, sandbox.RuntimeMicroVM) // the only one of earlier versions
	return &r.Record, nil
}
