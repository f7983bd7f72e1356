package features

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mounts are the file systems that a program can mount in a sandbox.
func mounts() []Feature {
	return []Feature{
		{"tmpfs mount", "mount it", func() error { return mountOf("tmpfs", "") }},
		{"proc mount", "mount it and find its file version", func() error { return mountOf("proc", "version") }},
		{"sysfs mount", "mount it and find kernel", func() error { return mountOf("sysfs", "kernel") }},
		{"devpts mount", "mount it and find ptmx", func() error { return mountOf("devpts", "ptmx") }},
		{"mqueue mount", "mount it", func() error { return mountOf("mqueue", "") }},
		{"bind mount, made read-only", "a write to it fails", readOnlyBind},
		{"FUSE mount", "serve a file system and look at its root", fuse},
		{"loop device", "attach a file and read it", func() error { return withLoop(func(string) error { return nil }) }},
		{"ext4 image by a loop device", "make, mount and write one", func() error {
			return withLoop(func(device string) error {
				return inDir(func(dir string) error {
					if err := unix.Mount(device, dir, "ext4", 0, ""); err != nil {
						return err
					}
					defer unix.Unmount(dir, unix.MNT_DETACH)
					return os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o644)
				})
			})
		}},
		{"swap on a loop device", "mkswap, swapon, swapoff", func() error {
			return withLoop(func(device string) error {
				if out, err := exec.Command("mkswap", device).CombinedOutput(); err != nil {
					return fmt.Errorf("mkswap: %s", out)
				}
				if err := swap(unix.SYS_SWAPON, device); err != nil {
					return err
				}
				return swap(unix.SYS_SWAPOFF, device)
			})
		}},
	}
}

// mountOf mounts a file system without a device and looks for a name in it.
func mountOf(kind, name string) error {
	return inDir(func(dir string) error {
		if err := unix.Mount(kind, dir, kind, 0, ""); err != nil {
			return err
		}
		defer unix.Unmount(dir, unix.MNT_DETACH)
		_, err := os.Stat(filepath.Join(dir, name))
		return err
	})
}

func readOnlyBind() error {
	return inDir(func(dir string) error {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		defer unix.Unmount(dir, unix.MNT_DETACH)
		if err := unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return err
		}
		err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644)
		return want(errors.Is(err, unix.EROFS), "a write had the error %v", err)
	})
}

func swap(call uintptr, device string) error {
	path, err := unix.BytePtrFromString(device)
	if err != nil {
		return err
	}
	return errnoOf(unix.Syscall(call, uintptr(unsafePointer(path)), 0, 0))
}

// withLoop attaches an ext4 image to a loop device.
func withLoop(do func(device string) error) error {
	return inDir(func(dir string) error {
		control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer control.Close()
		path := filepath.Join(dir, "image")
		image, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		defer image.Close()
		if err := image.Truncate(8 << 20); err != nil {
			return err
		}
		if out, err := exec.Command("mkfs.ext4", "-q", path).CombinedOutput(); err != nil {
			return fmt.Errorf("mkfs.ext4: %s", out)
		}
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("/dev/loop%d", n)
		device, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer device.Close()
		if err := unix.IoctlSetInt(int(device.Fd()), unix.LOOP_SET_FD, int(image.Fd())); err != nil {
			return err
		}
		defer unix.IoctlSetInt(int(device.Fd()), unix.LOOP_CLR_FD, 0)
		magic := make([]byte, 2)
		if _, err := device.ReadAt(magic, 1024+56); err != nil {
			return err
		}
		if err := want(magic[0] == 0x53 && magic[1] == 0xef, "the device has other bytes than its file"); err != nil {
			return err
		}
		return do(name)
	})
}

// The requests of linux/fuse.h that looking at a root takes.
const (
	fuseGetattr = 3
	fuseInit    = 26
)

// fuse mounts a file system that this process serves, and asks for the attributes of
// its root in another.
func fuse() error {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return inDir(func(dir string) error {
		options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
		if err := unix.Mount("probe", dir, "fuse", 0, options); err != nil {
			return err
		}
		defer unix.Unmount(dir, unix.MNT_DETACH)
		go serveFuse(fd)
		out, err := exec.Command("stat", "-c", "%a", dir).Output()
		if err != nil {
			return err
		}
		return want(string(bytes.TrimSpace(out)) == "711", "the root's mode is %q", out)
	})
}

// serveFuse answers the start and requests for attributes until the mount has ended.
func serveFuse(fd int) {
	request := make([]byte, 1<<17)
	for {
		n, err := unix.Read(fd, request)
		if err != nil || n < 40 {
			return
		}
		var body []byte
		failed := int32(0)
		switch binary.NativeEndian.Uint32(request[4:]) {
		case fuseInit:
			body = make([]byte, 64) // struct fuse_init_out
			binary.NativeEndian.PutUint32(body, 7)
			binary.NativeEndian.PutUint32(body[4:], 31)
			binary.NativeEndian.PutUint32(body[20:], 4096) // max_write
		case fuseGetattr:
			body = make([]byte, 16+88) // struct fuse_attr_out
			attr := body[16:]
			binary.NativeEndian.PutUint64(attr, 1)
			binary.NativeEndian.PutUint32(attr[60:], unix.S_IFDIR|0o711)
			binary.NativeEndian.PutUint32(attr[64:], 2)
		default:
			failed = -int32(unix.ENOSYS)
		}
		reply := make([]byte, 16, 16+len(body))
		binary.NativeEndian.PutUint32(reply, uint32(16+len(body)))
		binary.NativeEndian.PutUint32(reply[4:], uint32(failed))
		copy(reply[8:16], request[8:16]) // the request's number
		if _, err := unix.Write(fd, append(reply, body...)); err != nil {
			return
		}
	}
}
