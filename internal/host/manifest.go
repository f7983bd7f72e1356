package host

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/memory"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// manifest says what a snapshot is made of and where it can be restored.
type manifest struct {
	CreatedAt      time.Time         `json:"created_at"`
	Spec           sandbox.Spec      `json:"spec"`
	Fingerprint    map[string]string `json:"fingerprint"`
	TemplateDigest string            `json:"template_digest"`
	KernelDigest   string            `json:"kernel_digest"`
	MemoryBytes    int64             `json:"memory_bytes"`
	DirtyBytes     int64             `json:"dirty_bytes"`
	StateSHA256    string            `json:"state_sha256"`
	DiskBytes      int64             `json:"disk_bytes"`
}

func (m *machine) fingerprint() map[string]string {
	return m.mgr.driver.Fingerprint(vmm.Config{VCPUs: m.rec.Spec.VCPUs, MemoryMB: m.rec.Spec.MemoryMB})
}

func (m *machine) manifest(stats memory.Stats) manifest {
	return manifest{
		CreatedAt: time.Now(), Spec: m.publicSpec(), Fingerprint: m.fingerprint(),
		TemplateDigest: m.rec.TemplateDigest, KernelDigest: m.mgr.deps.Kernel.Digest,
		MemoryBytes: stats.Total, DirtyBytes: stats.Dirty, DiskBytes: int64(m.rec.Spec.DiskMB) << 20,
	}
}

// publicSpec is the machine's spec without its secrets.
func (m *machine) publicSpec() sandbox.Spec {
	spec := m.rec.Spec
	spec.Env = nil
	return spec
}

// writeManifest adds the checksum of the device state, which is small and
// without which a damaged file would be half restored, and writes mf.
func writeManifest(snap snapshotDir, mf manifest) error {
	sum, err := sha256File(snap.state())
	if err != nil {
		return err
	}
	mf.StateSHA256 = sum
	data, err := json.MarshalIndent(mf, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(snap.manifest(), data, 0o600); err != nil {
		return err
	}
	return syncFile(snap.manifest())
}

// checkSnapshot refuses a snapshot that is damaged or belongs elsewhere, before
// any of it is loaded.
func (m *machine) checkSnapshot(snap snapshotDir) error {
	data, err := os.ReadFile(snap.manifest())
	if err != nil {
		return errDamaged(err, "its manifest cannot be read")
	}
	var mf manifest
	if err := json.Unmarshal(data, &mf); err != nil {
		return errDamaged(err, "its manifest cannot be read")
	}
	if err := vmm.CheckFingerprint(mf.Fingerprint, m.fingerprint()); err != nil {
		return err
	}
	sum, err := sha256File(snap.state())
	if err != nil || sum != mf.StateSHA256 {
		return errDamaged(err, "its device state is not what was saved")
	}
	if st, err := os.Stat(snap.memory()); err != nil || st.Size() != mf.MemoryBytes {
		return errDamaged(err, "its memory file is not what was saved")
	}
	if st, err := os.Stat(m.dir.disk()); err != nil || st.Size() != mf.DiskBytes {
		return errDamaged(err, "its disk is not what was saved")
	}
	if _, err := os.Stat(m.rec.RootImage); err != nil {
		return errDamaged(err, "the template image it runs on is gone")
	}
	return nil
}

func errDamaged(cause error, what string) error {
	return fault.Wrap(cause, fault.HostFailed, "snapshot_damaged", "the snapshot of the sandbox is damaged: %s", what)
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
