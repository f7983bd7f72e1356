package datafs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// attachTries is how often a free loop device is asked for, when others take
// it first.
const attachTries = 32

// attach returns a new loop device for the image. The kernel detaches the
// device when nothing holds it open or mounted any more.
func attach(image *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, noLoops(err)
	}
	defer control.Close()
	config := unix.LoopConfig{Fd: uint32(image.Fd()), Size: 4096}
	config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO // the kernel drops the second where it cannot
	copy(config.Info.File_name[:len(config.Info.File_name)-1], image.Name())
	for range attachTries {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, noLoops(err)
		}
		device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			return nil, noLoops(err)
		}
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
		if err == nil {
			return device, nil
		}
		device.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, noLoops(err)
		}
	}
	return nil, noLoops(unix.EBUSY)
}

func noLoops(err error) error {
	return fault.Wrap(err, fault.Unsupported, "no_loop_device", "no loop device can be had: run 'modprobe loop', or start with --data-fs none")
}

// loopDevice is one that stands for the image, held open.
type loopDevice struct {
	*os.File
	directIO bool
}

// find returns the loop device of the file that image describes, open, or nil.
// It may be left of a mount in another mount namespace; a second device for
// the same file would let two file systems write over each other.
func find(image unix.Stat_t) (*loopDevice, error) {
	bound, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	for _, file := range bound {
		name := filepath.Base(filepath.Dir(filepath.Dir(file)))
		device, err := os.Open(filepath.Join("/dev", name))
		if err != nil {
			continue // gone meanwhile, or none of this mount namespace
		}
		info, err := unix.IoctlLoopGetStatus64(int(device.Fd()))
		if err == nil && info.Device == image.Dev && info.Inode == image.Ino && info.Offset == 0 {
			return &loopDevice{device, info.Flags&unix.LO_FLAGS_DIRECT_IO != 0}, nil
		}
		device.Close()
	}
	return nil, nil
}

// number is the device's major:minor, by which the kernel's tables name it.
func (d *loopDevice) number() (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &st); err != nil {
		return "", &os.PathError{Op: "fstat", Path: d.Name(), Err: err}
	}
	return fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)), nil
}

// detach ends a loop device that the last unmount did not end: one that
// somebody attached by hand. One that is still in use ends with its last user.
func (p Place) detach() error {
	image, err := p.stat()
	if err != nil {
		return err
	}
	device, err := find(image)
	if err != nil || device == nil {
		return err
	}
	defer device.Close()
	if err := unix.IoctlSetInt(int(device.Fd()), unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("detach %s: %w", device.Name(), err)
	}
	return nil
}
