package host

import (
	"context"
	"os"

	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/snapshot"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// The writable disk of a VM is a file of the host, or belongs to the driver, which
// saves and restores it with the VM (vmm.Shape.DiskInSnapshot). The functions of
// this file do nothing for a disk of the driver.

// shape returns the properties of the driver's VMs.
func (m *Manager) shape() vmm.Shape { return m.driver.Info().Shape }

// diskFiles returns the files of the VM's disk: one, or none.
func (b *body) diskFiles() []string {
	if b.mgr.shape().DiskInSnapshot {
		return nil
	}
	return []string{b.Dir.Disk()}
}

// createDisk creates an empty disk.
func (b *body) createDisk(ctx context.Context) error {
	for _, path := range b.diskFiles() {
		return disk.Create(ctx, path, int64(b.rec.Spec.DiskMB)<<20)
	}
	return nil
}

// copyDisk makes a copy of the base's disk.
func (b *body) copyDisk(ctx context.Context) error {
	for _, path := range b.diskFiles() {
		_, err := disk.Clone(ctx, path, b.base().Disk())
		return err
	}
	return nil
}

// copyDiskTo copies the disk of a VM that does not run to the snapshot to.
func (b *body) copyDiskTo(ctx context.Context, to snapshot.Dir) error {
	for _, path := range b.diskFiles() {
		_, err := disk.Clone(ctx, to.Disk(), path)
		return err
	}
	return nil
}

// moveDiskTo moves the disk of a VM that will not run again to the snapshot to.
func (b *body) moveDiskTo(to snapshot.Dir) error {
	for _, path := range b.diskFiles() {
		return os.Rename(path, to.Disk())
	}
	return nil
}

// shareDisk makes the disk of a resume a copy of the pause's disk, if files can
// share blocks.
func (b *body) shareDisk(ctx context.Context) error {
	for _, path := range b.diskFiles() {
		_, err := disk.Share(ctx, b.Dir.NextDisk(), path)
		return err
	}
	return nil
}

// checkDisk refuses a disk that cannot be the one of the pause with mf.
func (b *body) checkDisk(mf snapshot.Manifest) error {
	for _, path := range b.diskFiles() {
		if st, err := os.Stat(path); err != nil || st.Size() != mf.DiskBytes {
			return snapshot.ErrDamaged(err, "its disk is not what was saved")
		}
	}
	return nil
}

// pauseIsIntact reports whether a VM that runs after a resume leaves the pause as
// it was: it has a copy of the disk, or the disk is in the pause, which a restore
// only reads.
func (b *body) pauseIsIntact() bool {
	return b.hasNextDisk() || b.rec.State == sandbox.Paused && b.mgr.shape().DiskInSnapshot
}
