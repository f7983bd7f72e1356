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
func (b *body) shape() vmm.Shape { return b.Driver().Info().Shape }

// hasDiskFile reports whether the disk is a file of the host.
func (b *body) hasDiskFile() bool { return !b.shape().DiskInSnapshot }

// diskFiles returns the files of the VM's disk: one, or none.
func (b *body) diskFiles() []string {
	if !b.hasDiskFile() {
		return nil
	}
	return []string{b.Dir.Disk()}
}

// createDisk creates an empty disk.
func (b *body) createDisk(ctx context.Context) error {
	if !b.hasDiskFile() {
		return nil
	}
	return disk.Create(ctx, b.Dir.Disk(), int64(b.rec.Spec.DiskMB)<<20)
}

// copyDisk makes a copy of the base's disk.
func (b *body) copyDisk(ctx context.Context) error {
	return b.cloneDisk(ctx, b.Dir.Disk(), b.base().Disk())
}

// copyDiskTo copies the disk of a VM that does not run to the snapshot to.
func (b *body) copyDiskTo(ctx context.Context, to snapshot.Dir) error {
	return b.cloneDisk(ctx, to.Disk(), b.Dir.Disk())
}

func (b *body) cloneDisk(ctx context.Context, to, from string) error {
	if !b.hasDiskFile() {
		return nil
	}
	_, err := disk.Clone(ctx, to, from)
	return err
}

// moveDiskTo moves the disk of a VM that will not run again to the snapshot to.
func (b *body) moveDiskTo(to snapshot.Dir) error {
	if !b.hasDiskFile() {
		return nil
	}
	return os.Rename(b.Dir.Disk(), to.Disk())
}

// shareDisk makes the disk of a resume a copy of the pause's disk, if files can
// share blocks.
func (b *body) shareDisk(ctx context.Context) error {
	if !b.hasDiskFile() {
		return nil
	}
	_, err := disk.Share(ctx, b.Dir.NextDisk(), b.Dir.Disk())
	return err
}

// checkDisk refuses a disk that cannot be the one of the pause with mf.
func (b *body) checkDisk(mf snapshot.Manifest) error {
	if !b.hasDiskFile() {
		return nil
	}
	if st, err := os.Stat(b.Dir.Disk()); err != nil || st.Size() != mf.DiskBytes {
		return snapshot.ErrDamaged(err, "its disk is not what was saved")
	}
	return nil
}

// pauseIsIntact reports whether a VM that runs after a resume leaves the pause as
// it was: it has a copy of the disk, or the disk is in the pause, which a restore
// only reads.
func (b *body) pauseIsIntact() bool {
	return b.hasNextDisk() || b.rec.State == sandbox.Paused && !b.hasDiskFile()
}
