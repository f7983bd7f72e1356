package datafs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Files of guests are opaque to the host: nothing in there is a device or may
// change anybody's user id. Discard gives blocks that were freed back to the
// file below.
const (
	mountFlags   = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOATIME
	mountOptions = "discard"
)

// mounted returns a Mount with Found set if the image is mounted at Dir.
func (p Place) mounted() (Mount, error) {
	image, err := p.stat()
	if err != nil {
		return Mount{}, err
	}
	device, err := find(image)
	if err != nil || device == nil {
		return Mount{}, err
	}
	defer device.Close()
	number, err := device.number()
	if err != nil {
		return Mount{}, err
	}
	m := Mount{Device: device.Name(), DirectIO: device.directIO}
	at, err := mountedAt(p.Dir)
	m.Found = err == nil && at == number
	return m, err
}

// mountedAt returns the device number of the file system mounted at dir, or an empty string.
// It asks the kernel's table and not the directory, which a file system that
// has shut down no longer answers for.
func mountedAt(dir string) (number string, err error) {
	above, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	point := filepath.Join(above, filepath.Base(dir))
	_, err = mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		if m.Mountpoint == point { // of several mounts at one point the last covers the others
			number = fmt.Sprintf("%d:%d", m.Major, m.Minor)
		}
		return true, false
	})
	return number, err
}

// checkHealth fails if the mounted file system has shut down.
func (p Place) checkHealth() error {
	var st unix.Stat_t
	err := unix.Stat(p.Dir, &st)
	if errors.Is(err, unix.EIO) || errors.Is(err, unix.EUCLEAN) {
		return fault.Wrap(err, fault.HostFailed, reasonFailed,
			"the file system at %s has shut down after an error: see the kernel's log, run 'wrenn down', and start again", p.Dir)
	}
	return err
}

// mount mounts the image at Dir, by the loop device that it has or a new one.
// The root of the file system takes the mode of the directory it covers.
func (p Place) mount() (Mount, error) {
	covered, err := os.Stat(p.Dir)
	if err != nil {
		return Mount{}, err
	}
	device, err := p.device()
	if err != nil {
		return Mount{}, err
	}
	defer device.Close() // from here on the mount holds it
	m := Mount{Device: device.Name(), DirectIO: device.directIO}
	err = unix.Mount(device.Name(), p.Dir, "xfs", mountFlags, mountOptions)
	switch {
	case errors.Is(err, unix.ENODEV):
		return Mount{}, fault.Wrap(err, fault.Unsupported, "no_xfs", "this kernel has no XFS: run 'modprobe xfs', or start with --data-fs none")
	case err != nil:
		return Mount{}, fault.Wrap(fmt.Errorf("mount %s at %s: %w", device.Name(), p.Dir, err), fault.Internal, "data_fs_not_mounted",
			"the file system %s cannot be mounted: the kernel's log says why, and 'xfs_repair %s' may repair it", p.Image, p.Image)
	}
	if err := p.checkHealth(); err != nil {
		return Mount{}, errors.Join(err, unix.Unmount(p.Dir, unix.UMOUNT_NOFOLLOW))
	}
	return m, os.Chmod(p.Dir, covered.Mode().Perm())
}

// keptPatience bounds the wait for the processes that keep alive a file system that
// has shut down, and keptRetry is the interval of looks. A process that is being
// started has a copy of the mounts for some 100 ms.
const (
	keptPatience = 10 * time.Second
	keptRetry    = 50 * time.Millisecond
)

// mountAlive mounts the image when it is no file system any more that has shut down: a
// mount of the same device shares that.
func (p Place) mountAlive(ctx context.Context) (Mount, error) {
	ctx, cancel := context.WithTimeout(ctx, keptPatience)
	defer cancel()
	for {
		m, err := p.mount()
		if fault.ReasonOf(err) != reasonFailed {
			return m, err
		}
		select {
		case <-time.After(keptRetry):
		case <-ctx.Done():
			return m, fault.Wrap(err, fault.HostFailed, reasonFailed,
				"the file system in %s has shut down after an error, and a process with a copy of the machine's mounts keeps it from being mounted anew: end that process, or restart the machine", p.Image)
		}
	}
}

// reasonFailed is the reason of the fault for a file system that has shut down.
const reasonFailed = "data_fs_failed"

// device returns the image's loop device, held open.
func (p Place) device() (*loopDevice, error) {
	image, err := os.OpenFile(p.Image, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer image.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(image.Fd()), &st); err != nil {
		return nil, &os.PathError{Op: "fstat", Path: p.Image, Err: err}
	}
	if device, err := find(st); err != nil || device != nil {
		return device, err
	}
	f, err := attach(image)
	if err != nil {
		return nil, err
	}
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("look at %s: %w", f.Name(), err), f.Close())
	}
	return &loopDevice{f, info.Flags&unix.LO_FLAGS_DIRECT_IO != 0}, nil
}

func (p Place) stat() (unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Stat(p.Image, &st); err != nil {
		return st, &os.PathError{Op: "stat", Path: p.Image, Err: err}
	}
	return st, nil
}
