package datafs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// ReasonBusy is the reason of the fault for a file system that is in use.
const ReasonBusy = "data_fs_busy"

// Place is where one file system is kept and where it is used.
//
// Invariants: a file named Image is complete and carries the label, or is not
// ours; at most one loop device stands for it; what is at Dir is either that
// file system or an empty directory.
type Place struct {
	// Image is the path of the file that holds the file system. Its directory
	// must exist; it is locked for the length of each call.
	Image string
	// Dir is where the file system is mounted. It is made if it is missing.
	Dir string
}

// Mount is a mounted file system.
type Mount struct {
	// Device is the loop device's path.
	Device string
	// DirectIO: what is written is cached once, not in the file below as well.
	DirectIO bool
	// Made: this call made the file system.
	Made bool
	// Found: it was mounted already.
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

// Open returns with the file system mounted. What is missing of it is made
// first, size bytes large; 0 is DefaultSize. It takes no disk space until it is
// written to.
//
// The fault is of kind WrongState, reason data_dir_in_use, if Dir holds files
// or a file system of others; reason data_fs_foreign as for Exists; of kind
// Invalid or NoCapacity if size is too small or the disk is; of kind
// Unsupported if this machine lacks a tool, XFS or loop devices; of kind
// HostFailed, reason data_fs_failed, if it is mounted but has shut down.
func (p Place) Open(ctx context.Context, size int64) (Mount, error) {
	unlock, err := p.lock()
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
	m, err := p.mount()
	m.Made = err == nil && !exists
	return m, err
}

// Close unmounts the file system, if it is mounted, and lets go of the loop
// device. A file system that is in use stays as it is, and the fault is of
// kind WrongState, reason ReasonBusy.
func (p Place) Close() error {
	exists, err := p.Exists()
	if err != nil || !exists {
		return err
	}
	unlock, err := p.lock()
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

// lock takes the lock on the image's directory, which ends with the process.
// Who holds it is done within seconds.
func (p Place) lock() (release func(), err error) {
	dir, err := os.Open(filepath.Dir(p.Image))
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(dir.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir.Name(), err), dir.Close())
	}
	return func() { dir.Close() }, nil
}

// checkDir makes sure that mounting at Dir hides nothing. What a person can do
// about it depends on whether the image exists.
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
