package snapshot

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/linux/durable"
	"github.com/wrenn-dev/wrenn/internal/linux/filesum"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Manifest lists the files of a snapshot and the fingerprint of hosts that can
// restore it. It holds secrets (token, env) and is readable by root alone.
type Manifest struct {
	CreatedAt   time.Time         `json:"created_at"`
	Of          sandbox.Ref       `json:"of"`
	Spec        sandbox.Spec      `json:"spec"`
	Fingerprint map[string]string `json:"fingerprint"`
	// TemplateInputs lists, for a template snapshot, everything that its content
	// depends on.
	TemplateInputs map[string]string `json:"kind,omitempty"`
	TemplateDigest string            `json:"template_digest"`
	RootImage      string            `json:"root_image"`
	KernelDigest   string            `json:"kernel_digest"`
	// MemoryBytes is the size of guest memory, DirtyBytes the part that has
	// changed since the base, and KeptBytes the part of that in the difference.
	MemoryBytes int64 `json:"memory_bytes"`
	DirtyBytes  int64 `json:"dirty_bytes"`
	KeptBytes   int64 `json:"kept_bytes"`
	DiskBytes   int64 `json:"disk_bytes"`
	// Files are the seals of the driver's files, by name. Disk is that of a base.
	Files map[string]Seal `json:"files"`
	Disk  Seal            `json:"disk,omitzero"`
	// Start, unless nil, is the start command that a boot of a sandbox runs again.
	Start *sandbox.StartCommand `json:"start,omitempty"`
	// Token is the access token of a guest that was not sealed.
	Token string `json:"token,omitempty"`
	// Forced snapshots were taken without the guest's help: its processes were
	// not frozen, and it may not answer after a restore.
	Forced bool `json:"forced,omitempty"`
	// DiskOnly: only the disk of a pause, or of a base, is used. Where the disk is a file of
	// the host, there are no files of the driver.
	DiskOnly bool `json:"disk_only,omitempty"`
	// Boot: the base of a VM that has booted from its own disk. It has no device state
	// and no disk, and the memory is blank.
	Boot bool `json:"boot,omitempty"`
	// Ephemeral snapshots do not outlive the agent.
	Ephemeral bool `json:"ephemeral,omitempty"`
	// PauseWindow is the time for which the VM was stopped for the snapshot.
	PauseWindow time.Duration `json:"pause_window,omitempty"`
}

// writeManifest adds the checksums of the small files of the driver, without
// which a damaged file would be half restored, and writes mf.
func writeManifest(snap Dir, mf Manifest, files []vmm.File, durably bool) error {
	if err := mf.sum(snap, files); err != nil {
		return err
	}
	data, err := json.MarshalIndent(mf, "", "  ")
	if err != nil {
		return err
	}
	for _, f := range []struct {
		path string
		data []byte
	}{{snap.ManifestSum(), sumOf(data)}, {snap.Manifest(), data}} {
		if err := os.WriteFile(f.path, f.data, 0o600); err != nil {
			return err
		}
		if !durably {
			continue
		}
		if err := durable.Sync(f.path); err != nil {
			return err
		}
	}
	return nil
}

// sumOf returns the content of the file at [Dir.ManifestSum].
func sumOf(manifest []byte) []byte {
	sum := sha256.Sum256(manifest)
	return hex.AppendEncode(nil, sum[:])
}

// sum adds the checksums of the summed files to mf.
func (mf *Manifest) sum(snap Dir, files []vmm.File) error {
	sealed := maps.Clone(mf.Files)
	if sealed == nil {
		sealed = make(map[string]Seal)
	}
	for _, f := range files {
		if !f.Summed {
			continue
		}
		sum, _, err := filesum.SHA256(snap.File(f.Name))
		if err != nil {
			return err
		}
		sealed[f.Name] = Seal{SHA256: sum}
	}
	mf.Files = sealed
	return nil
}

// parseManifest decodes a manifest. Those of version 0.1 have the seals of QEMU's
// files in fields of their own.
func parseManifest(data []byte) (Manifest, error) {
	var mf struct {
		Manifest
		Memory      Seal   `json:"memory"`
		StateSHA256 string `json:"state_sha256"`
	}
	if err := json.Unmarshal(data, &mf); err != nil {
		return Manifest{}, err
	}
	if mf.Files == nil {
		mf.Files = map[string]Seal{"memory": mf.Memory, "state": {SHA256: mf.StateSHA256}}
	}
	mf.Spec.Runtime = cmp.Or(mf.Spec.Runtime, sandbox.RuntimeMicroVM) // the only one of earlier versions
	return mf.Manifest, nil
}

// check refuses a file of the driver that has changed since it was saved.
func (mf *Manifest) check(dir Dir, f vmm.File) error {
	want, known := mf.Files[f.Name]
	var have Seal
	var err error
	if f.Summed {
		have.SHA256, _, err = filesum.SHA256(dir.File(f.Name))
	} else {
		have, err = sealOf(dir.File(f.Name))
	}
	if err != nil || !known || have != want {
		return ErrDamaged(err, "its "+f.Noun+" is not what was saved")
	}
	return nil
}

// HideDamage hides the cause of an error about a saved VM that has changed.
func HideDamage(err error) error {
	if errors.Is(err, vmm.ErrDamaged) {
		return ErrDamaged(err, "its memory is not what was saved")
	}
	return err
}

// ErrDamaged returns the fault for a snapshot that has changed since it was saved.
// The clause what names the damaged part.
func ErrDamaged(cause error, what string) error {
	return fault.Wrap(cause, fault.HostFailed, "snapshot_damaged", "the snapshot is damaged: %s", what)
}

// ReadManifest reads the manifest of a snapshot. The error is HostFailed
// snapshot_damaged.
func ReadManifest(dir Dir) (Manifest, error) {
	data, err := os.ReadFile(dir.Manifest())
	if err != nil {
		return Manifest{}, ErrDamaged(err, "its manifest cannot be read")
	}
	sum, err := os.ReadFile(dir.ManifestSum())
	if err != nil && !errors.Is(err, os.ErrNotExist) || err == nil && !bytes.Equal(sum, sumOf(data)) {
		return Manifest{}, ErrDamaged(err, "its manifest is not what was saved")
	}
	mf, err := parseManifest(data)
	if err != nil {
		return Manifest{}, ErrDamaged(err, "its manifest cannot be read")
	}
	return mf, nil
}
