package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/linux/durable"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// manifest lists the files of a snapshot and the fingerprint of hosts that can
// restore it. It holds secrets (token, env) and is readable by root alone.
type manifest struct {
	CreatedAt   time.Time         `json:"created_at"`
	Of          sandbox.Ref       `json:"of"`
	Spec        sandbox.Spec      `json:"spec"`
	Fingerprint map[string]string `json:"fingerprint"`
	// Kind, of a template snapshot, is all that it was made from, see templateKey.
	Kind           map[string]string `json:"kind,omitempty"`
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
	Files map[string]fileSeal `json:"files"`
	Disk  fileSeal            `json:"disk,omitzero"`
	// Token is the access token of a guest that was not sealed.
	Token string `json:"token,omitempty"`
	// Forced snapshots were taken without the guest's help: its processes were
	// not frozen, and it may not answer when it is let go.
	Forced bool `json:"forced,omitempty"`
	// Ephemeral snapshots do not outlive the agent.
	Ephemeral bool `json:"ephemeral,omitempty"`
	// PauseWindow is how long the machine stood still for it.
	PauseWindow time.Duration `json:"pause_window,omitempty"`
}

// fingerprint is the fingerprint of the machine's snapshots. Its VM runs under the
// build that its base was saved under; a machine that boots cold has no base.
func (b *body) fingerprint() map[string]string {
	now := b.mgr.fingerprint(b.rec.Spec, "")
	if base, err := manifestOf(b.base()); err == nil {
		return vmm.WithBuildOf(now, base.Fingerprint)
	}
	return now
}

// fingerprint is that of a machine of spec under a kept build, or the current
// one for none.
func (m *Manager) fingerprint(spec sandbox.Spec, build string) map[string]string {
	cfg := sizeOf(spec)
	cfg.Build = build
	return m.driver.Fingerprint(cfg)
}

// sizeOf is the part of a VM's configuration that is known without its resources.
func sizeOf(spec sandbox.Spec) vmm.Config {
	return vmm.Config{VCPUs: spec.VCPUs, MemoryMB: spec.MemoryMB}
}

func (b *body) manifest(stats vmm.SaveStats) manifest {
	return manifest{
		CreatedAt: time.Now(), Of: b.rec.Ref(), Spec: b.rec.Spec, Fingerprint: b.fingerprint(),
		TemplateDigest: b.rec.TemplateDigest, RootImage: b.rec.RootImage, KernelDigest: b.mgr.deps.Kernel.Digest,
		MemoryBytes: int64(b.rec.Spec.MemoryMB) << 20, DirtyBytes: stats.Dirty, KeptBytes: stats.Kept,
		DiskBytes: int64(b.rec.Spec.DiskMB) << 20,
	}
}

// writeManifest adds the checksums of the small files of the driver, without
// which a damaged file would be half restored, and writes mf.
func writeManifest(snap snapshotDir, mf manifest, files []vmm.File, durably bool) error {
	if err := mf.sum(snap, files); err != nil {
		return err
	}
	data, err := json.MarshalIndent(mf, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(snap.manifest(), data, 0o600); err != nil || !durably {
		return err
	}
	return durable.Sync(snap.manifest())
}

// sum adds the checksums of the summed files to mf.
func (mf *manifest) sum(snap snapshotDir, files []vmm.File) error {
	sealed := maps.Clone(mf.Files)
	if sealed == nil {
		sealed = make(map[string]fileSeal)
	}
	for _, f := range files {
		if !f.Summed {
			continue
		}
		sum, err := sha256File(snap.file(f.Name))
		if err != nil {
			return err
		}
		sealed[f.Name] = fileSeal{SHA256: sum}
	}
	mf.Files = sealed
	return nil
}

// parseManifest decodes a manifest. Those of version 0.1 have the seals of QEMU's
// files in fields of their own.
func parseManifest(data []byte) (manifest, error) {
	var mf struct {
		manifest
		Memory      fileSeal `json:"memory"`
		StateSHA256 string   `json:"state_sha256"`
	}
	if err := json.Unmarshal(data, &mf); err != nil {
		return manifest{}, err
	}
	if mf.Files == nil {
		mf.Files = map[string]fileSeal{"memory": mf.Memory, "state": {SHA256: mf.StateSHA256}}
	}
	return mf.manifest, nil
}

// checkPause refuses a pause that is damaged or belongs to another host, before
// any of it is loaded, and names the difference. The pages are checked as they
// are loaded, while the machine can still return to paused.
func (m *machine) checkPause(snap snapshotDir) error {
	mf, err := manifestOf(snap)
	if err != nil {
		return err
	}
	if _, err := m.mgr.checkBase(m.base(), m.rec.Spec); err != nil {
		return err
	}
	if err := m.mgr.checkFingerprint(mf.Fingerprint, m.rec.Spec); err != nil {
		return err
	}
	for _, f := range m.mgr.driver.Files(vmm.Delta) {
		if !f.Summed {
			continue
		}
		if err := mf.check(snap, f); err != nil {
			return err
		}
	}
	if err := m.mgr.driver.CheckDelta(sizeOf(m.rec.Spec), string(snap)); err != nil {
		return errDamaged(err, "its memory is not what was saved")
	}
	if st, err := os.Stat(m.Dir.Disk()); err != nil || st.Size() != mf.DiskBytes {
		return errDamaged(err, "its disk is not what was saved")
	}
	if _, err := os.Stat(m.rec.RootImage); err != nil {
		return errDamaged(err, "the template image it runs on is gone")
	}
	return nil
}

// check refuses a file of the driver's that is not what was saved.
func (mf *manifest) check(dir snapshotDir, f vmm.File) error {
	want, known := mf.Files[f.Name]
	var have fileSeal
	var err error
	if f.Summed {
		have.SHA256, err = sha256File(dir.file(f.Name))
	} else {
		have, err = sealOf(dir.file(f.Name))
	}
	if err != nil || !known || have != want {
		return errDamaged(err, "its "+f.Noun+" is not what was saved")
	}
	return nil
}

// damaged hides the cause of an error about a saved VM that has changed.
func damaged(err error) error {
	if errors.Is(err, vmm.ErrDamaged) {
		return errDamaged(err, "its memory is not what was saved")
	}
	return err
}

func errDamaged(cause error, what string) error {
	return fault.Wrap(cause, fault.HostFailed, "snapshot_damaged", "the snapshot is damaged: %s", what)
}

func sha256File(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), errors.Join(err, f.Close())
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// syncFiles makes the content of files durable, all at once: most of the time
// each takes is the disk's, and that can do several.
func syncFiles(ctx context.Context, paths ...string) error {
	group, _ := errgroup.WithContext(ctx)
	for _, path := range paths {
		group.Go(func() error { return fault.Caught(func() error { return durable.Sync(path) }) })
	}
	return group.Wait()
}
