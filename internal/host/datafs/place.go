package datafs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/flock"
)

// ReasonBusy is the reason of the fault for a file system that is in use.
const ReasonBusy = "data_fs_busy"

// Place is where one file system is kept and where it is used.
//
// Invariants: a file named Image is complete and carries the label, or is not
// ours; at most one loop device stands for it; Dir is either the root of that
// file system or an empty directory.
type Place struct {
	// Image is the path of the file that holds the file system. Its directory
	// must exist. Open and Close hold the lock of the file Image.lock beside it.
	Image string
	// Dir is where the file system is mounted. It is made if it is missing.
	Dir string
}

// Mount is a mounted file system.
type Mount struct {
	// Device is the loop device's path.
	Device string
	// DirectIO says that written pages are cached once, not in the file below as well.
	DirectIO bool
	// Made says that this call made the file system.
	Made bool
	// Found says that the file system was mounted already.
	Found bool
}

// Exists reports whether there is a file system of ours. A file of that name
// that is something else is a fault of kind WrongState, reason data_fs_foreign.
func (p Place) Exists() (bool, error) {
	f, err := os.Open(p.Image)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	return true, checkLabel(f)
}

// Open mounts the file system. It makes a missing image first, size bytes large; 0
// is DefaultSize. The image takes no disk space until it is written to.
//
// The fault is of kind WrongState, reason data_dir_in_use, if Dir holds files
// or a file system of others; reason data_fs_foreign as for Exists; of kind
// Invalid or NoCapacity if size is too small or the disk is; of kind
// Unsupported if this machine lacks a tool, XFS or loop devices; of kind
// HostFailed, reason data_fs_failed, if it is mounted but has shut down, or if a
// process with a copy of the mounts keeps one alive that has shut down.
func (p Place) Open(ctx context.Context, size int64) (Mount, error) {
	unlock, err := p.lock(ctx, lockPatience)
	if err != nil {
		return Mount{}, err
	}
	defer unlock()
	exists, err := p.Exists()
	if err != nil {
		return Mount{}, err
	}
	if exists {
		m, err := p.mounted()
		if err != nil {
			return Mount{}, err
		}
		if m.Found {
			return m, p.checkHealth()
		}
	}
	if err := p.checkDir(exists); err != nil {
		return Mount{}, err
	}
	if !exists {
		if err := p.make(ctx, size); err != nil {
			return Mount{}, err
		}
	}
	m, err := p.mountAlive(ctx)
	m.Made = err == nil && !exists
	return m, err
}

// Close unmounts the file system, if it is mounted, and detaches the loop
// device. A file system that is in use stays as it is, and the fault is of
// kind WrongState, reason ReasonBusy.
func (p Place) Close() error {
	exists, err := p.Exists()
	if err != nil || !exists {
		return err
	}
	unlock, err := p.lock(context.Background(), lockPatience)
	if err != nil {
		return err
	}
	defer unlock()
	m, err := p.mounted()
	if err != nil || !m.Found {
		return err
	}
	switch err := unix.Unmount(p.Dir, unix.UMOUNT_NOFOLLOW); {
	case errors.Is(err, unix.EBUSY):
		return fault.Wrap(err, fault.WrongState, ReasonBusy, "the file system at %s stays mounted: it is in use", p.Dir)
	case errors.Is(err, unix.EPERM):
		return fault.Wrap(err, fault.Forbidden, "not_root", "the file system at %s can be unmounted by root only", p.Dir)
	case err != nil:
		return fmt.Errorf("unmount %s: %w", p.Dir, err)
	}
	return p.detach()
}

// lockPatience bounds the wait for another process that makes, mounts or unmounts
// the same file system. That takes seconds; the rest is for a slow disk.
const lockPatience = time.Minute

// lock takes the place's lock. It waits for another holder as long as patience
// and then fails with kind WrongState, reason ReasonBusy. Only root can open the
// lock file, and so no other user can hold the lock.
func (p Place) lock(ctx context.Context, patience time.Duration) (release func(), err error) {
	f, err := flock.Open(p.Image + ".lock")
	if errors.Is(err, fs.ErrPermission) {
		return nil, fault.Wrap(err, fault.Forbidden, "not_root", "the file system in %s can be used by root only", p.Image)
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errLocked)
	defer cancel()
	if err = flock.Wait(ctx, f, lockRetry); err == nil {
		return func() { _ = f.Close() }, nil
	}
	if errors.Is(err, errLocked) {
		err = fault.Wrap(err, fault.WrongState, ReasonBusy,
			"another process has held the lock %s for %v: wait until it is done, or end it, and try again", f.Name(), patience)
	}
	return nil, errors.Join(err, f.Close())
}

// lockRetry is the interval at which a held lock is tried again.
const lockRetry = 50 * time.Millisecond

// errLocked is the cause of a context whose time ended while the lock was held.
var errLocked = errors.New("the lock is held")

// checkDir makes sure that mounting at Dir hides nothing. The advice to a person
// depends on whether the image exists.
func (p Place) checkDir(exists bool) error {
	if err := os.MkdirAll(p.Dir, 0o711); err != nil {
		return err
	}
	at, err := mountedAt(p.Dir)
	if err != nil {
		return err
	}
	advice := "use it as it is with --data-fs none"
	if exists {
		advice = "move " + p.Image + " away, with the sandboxes in it"
	}
	if at != "" {
		return fault.New(fault.WrongState, "data_dir_in_use",
			"another file system is mounted at %s: unmount it, or %s", p.Dir, advice)
	}
	entries, err := os.ReadDir(p.Dir)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fault.New(fault.WrongState, "data_dir_in_use",
			"%s holds files, which a file system mounted there would hide: destroy the sandboxes in it, stop the server and "+
				"remove the directory; or %s", p.Dir, advice)
	}
	return nil
}
