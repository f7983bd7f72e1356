package host

import (
	"errors"
	"os"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/snapshot"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// holdBase makes m a user of dir, which becomes its base.
func (b *body) holdBase(dir snapshot.Dir) error {
	if err := b.mgr.snapshots.Hold(dir); err != nil {
		return err
	}
	b.dropBase()
	b.heldBase, b.rec.Base = dir, string(dir)
	return nil
}

// dropBase ends that use. A deleted snapshot is removed with its last user.
func (b *body) dropBase() {
	dir := b.heldBase
	b.heldBase = ""
	b.dropHold(dir)
}

// dropHold ends the use of a base that is not the body's any more; empty is none.
func (b *body) dropHold(dir snapshot.Dir) {
	if dir == "" {
		return
	}
	old := b.mgr.snapshots.UnderOldBuild(dir)
	b.mgr.snapshots.Drop(dir)
	if old && b.mgr.snapshots.Users(dir) == 0 {
		defer b.mgr.collectSoon()
	}
	if _, err := os.Stat(dir.Deleted()); err != nil {
		return
	}
	if _, err := b.mgr.snapshots.Remove(dir); err != nil {
		b.log.Warn("could not remove a deleted snapshot; the next collection does", "dir", string(dir), "error", err)
	}
}

// base is the snapshot that the VM is restored from.
func (b *body) base() snapshot.Dir { return snapshot.Dir(b.rec.Base) }

// fingerprint is the fingerprint of the VM's snapshots. The VM runs under the build
// that its base was saved under; a VM that boots cold has no base.
func (b *body) fingerprint() map[string]string {
	now := snapshot.Fingerprint(b.Driver(), b.rec.Spec, "")
	if base, err := snapshot.ReadManifest(b.base()); err == nil {
		return vmm.WithBuildOf(now, base.Fingerprint)
	}
	return now
}

// rootImage returns the present path of a root image that was at path: the directory of
// the images may have moved.
func (m *Manager) rootImage(path, digest string) string {
	if _, err := os.Stat(path); path == "" || !errors.Is(err, os.ErrNotExist) {
		return path
	}
	found, err := m.deps.Images.Version(digest)
	if err != nil {
		return path // its users fail and name it
	}
	return found.Path
}

func (b *body) manifest(stats vmm.SaveStats) snapshot.Manifest {
	return snapshot.Manifest{
		CreatedAt: time.Now(), Of: b.rec.Ref(), Spec: b.rec.Spec, Fingerprint: b.fingerprint(),
		TemplateDigest: b.rec.TemplateDigest, RootImage: b.rec.RootImage, KernelDigest: b.Driver().BootInputs()[vmm.BootKernel],
		MemoryBytes: int64(b.rec.Spec.MemoryMB) << 20, DirtyBytes: stats.Dirty, KeptBytes: stats.Kept,
		DiskBytes: int64(b.rec.Spec.DiskMB) << 20, Start: b.rec.Start,
	}
}

// checkPause refuses a pause that is damaged or belongs to another host, before
// any of it is loaded, and names the difference. The pages are checked as they
// are loaded, while the sandbox can still return to paused.
func (b *body) checkPause(snap snapshot.Dir) error {
	if !b.shape().DeltaIsWhole {
		if _, err := b.mgr.snapshots.CheckBase(b.base(), b.rec.Spec); err != nil {
			return err
		}
	}
	mf, err := b.mgr.snapshots.CheckDelta(snap, b.rec.Spec)
	if err != nil {
		return err
	}
	if err := b.checkDisk(mf); err != nil {
		return err
	}
	return b.checkRootImage()
}

func (b *body) checkRootImage() error {
	if _, err := os.Stat(b.rec.RootImage); err != nil {
		return snapshot.ErrDamaged(err, "the template image it runs on is gone")
	}
	return nil
}
