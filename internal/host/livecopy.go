package host

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/snapshot"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// liveCopy copies a VM's memory and disk to a snapshot directory. It does
// most of that while the VM runs: begin copies the present content, and the
// finish methods, called while the VM is stopped, add the changes since.
//
// If files can share blocks, finishDisk clones the disk in no time. Otherwise the
// VMM copies it, because only the VMM sees the guest's writes meanwhile. A disk of
// the driver is part of the saved VM. With diskOnly nothing but the disk is copied.
type liveCopy struct {
	*machine
	tmp      snapshot.Dir
	diskOnly bool

	save vmm.Save // from prepare to close; nil with diskOnly
	disk *os.File // open between begin and close; nil where the disk is cloned
	// copier copies disk.
	copier vmm.DiskCopier
}

// aheadTimeout bounds the copying while the VM runs, which does not stop it.
const aheadTimeout = 15 * time.Minute

// prepare begins to save the VM to tmp, which it makes.
func (c *liveCopy) prepare(ctx context.Context) (err error) {
	if err := c.tmp.Recreate(); err != nil {
		return err
	}
	if c.diskOnly {
		return nil
	}
	c.save, err = c.VM.BeginSave(ctx, string(c.tmp))
	return err
}

// begin copies memory and disk while the VM runs.
func (c *liveCopy) begin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, aheadTimeout)
	defer cancel()
	ctx, stop := c.UntilExit(ctx)
	defer stop()
	if !c.mgr.reflink && c.hasDiskFile() {
		if err := c.beginDisk(ctx); err != nil {
			return causeOr(ctx, err)
		}
	}
	if c.diskOnly {
		return nil
	}
	return causeOr(ctx, c.save.Ahead(ctx))
}

func (c *liveCopy) beginDisk(ctx context.Context) (err error) {
	st, err := os.Stat(c.Dir.Disk())
	if err != nil {
		return err
	}
	if c.disk, err = os.OpenFile(c.tmp.Disk(), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return err
	}
	if err := c.disk.Truncate(st.Size()); err != nil {
		return err
	}
	var ok bool
	if c.copier, ok = c.VM.(vmm.DiskCopier); !ok {
		return errors.New("the VM cannot copy its disk")
	}
	return c.copier.BeginDiskCopy(ctx, c.disk)
}

// finishSave completes the saved VM, which is stopped.
func (c *liveCopy) finishSave(ctx context.Context) (err error) {
	if c.diskOnly {
		return nil
	}
	c.captured, err = c.save.Finish(ctx)
	return err
}

// finishDisk makes tmp's disk that of the stopped VM.
func (c *liveCopy) finishDisk(ctx context.Context) error {
	if c.disk == nil {
		return c.copyDiskTo(ctx, c.tmp)
	}
	if err := c.copier.EndDiskCopy(ctx); err != nil {
		return err
	}
	err := c.disk.Close()
	c.disk = nil
	return err
}

// close abandons an unfinished copy. A copy of the disk that cannot be abandoned
// continues in the VM and costs it time, until the next agent ends it.
func (c *liveCopy) close(ctx context.Context) {
	var errs []error
	if c.save != nil {
		errs = append(errs, c.save.Close())
	}
	if c.disk != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), teardownTimeout)
		defer cancel()
		if c.VM != nil && c.copier != nil {
			errs = append(errs, c.copier.AbandonDiskCopy(ctx))
		}
		errs = append(errs, c.disk.Close())
	}
	if err := errors.Join(errs...); err != nil {
		c.log.WarnContext(ctx, "could not end the copying of a running sandbox", "error", err)
	}
}
