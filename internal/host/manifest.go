package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/memory"
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
	StateSHA256    string            `json:"state_sha256"`
	// MemoryBytes is the size of guest memory, DirtyBytes the part that has
	// changed since the base, and KeptBytes the part of that in the difference.
	MemoryBytes int64 `json:"memory_bytes"`
	DirtyBytes  int64 `json:"dirty_bytes"`
	KeptBytes   int64 `json:"kept_bytes"`
	DiskBytes   int64 `json:"disk_bytes"`
	// Memory and Disk are those of a base.
	Memory fileSeal `json:"memory,omitzero"`
	Disk   fileSeal `json:"disk,omitzero"`
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
	return m.driver.Fingerprint(vmm.Config{VCPUs: spec.VCPUs, MemoryMB: spec.MemoryMB, Build: build})
}

func (b *body) manifest(stats memory.Stats) manifest {
	return manifest{
		CreatedAt: time.Now(), Of: b.rec.Ref(), Spec: b.rec.Spec, Fingerprint: b.fingerprint(),
		TemplateDigest: b.rec.TemplateDigest, RootImage: b.rec.RootImage, KernelDigest: b.mgr.deps.Kernel.Digest,
		MemoryBytes: int64(b.rec.Spec.MemoryMB) << 20, DirtyBytes: stats.Dirty, KeptBytes: stats.Kept,
		DiskBytes: int64(b.rec.Spec.DiskMB) << 20,
	}
}

// writeManifest adds the checksum of the device state, which is small and
// without which a damaged file would be half restored, and writes mf.
func writeManifest(snap snapshotDir, mf manifest, durably bool) error {
	sum, err := sha256File(snap.state())
	if err != nil {
		return err
	}
	mf.StateSHA256 = sum
	data, err := json.MarshalIndent(mf, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(snap.manifest(), data, 0o600); err != nil || !durably {
		return err
	}
	return durable.Sync(snap.manifest())
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
	if sum, err := sha256File(snap.state()); err != nil || sum != mf.StateSHA256 {
		return errDamaged(err, "its device state is not what was saved")
	}
	diff, err := os.Open(snap.diff())
	if err == nil {
		err = errors.Join(memory.CheckDiff(diff, mf.MemoryBytes), diff.Close())
	}
	if err != nil {
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
