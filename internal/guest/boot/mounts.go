package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Paths while the initramfs is still the root. After the switch they lie under the
// new root and have no path.
const (
	rootDevice = "/dev/vda"
	diskDevice = "/dev/vdb"
	lowerDir   = "/lower"
	diskDir    = "/disk"
	newRoot    = "/newroot"
)

type mount struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

func (m mount) do() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return fmt.Errorf("mount %s: %w", m.target, err)
	}
	if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
		return fmt.Errorf("mount %s on %s as %s: %w", m.source, m.target, m.fstype, err)
	}
	return nil
}

func mountAll(mounts []mount) error {
	for _, m := range mounts {
		if err := m.do(); err != nil {
			return err
		}
	}
	return nil
}

const noExec = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// mountKernel mounts the file systems for loading modules and finding disks.
func mountKernel() error {
	return mountAll([]mount{
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
		{"proc", "/proc", "proc", noExec, ""},
		{"sysfs", "/sys", "sysfs", noExec, ""},
	})
}

// rootTypes are the file systems that a root image may have.
var rootTypes = []string{"erofs", "ext4", "squashfs"}

// mountRoot mounts the image, the writable disk and the overlay of both, and
// returns the disk's directory, which stays usable after the switch.
func mountRoot() (disk *os.File, err error) {
	if err := mountImage(); err != nil {
		return nil, err
	}
	if err := (mount{diskDevice, diskDir, "ext4", unix.MS_NOATIME, ""}).do(); err != nil {
		return nil, err
	}
	setReadAhead(diskDevice)
	upper, work := filepath.Join(diskDir, "upper"), filepath.Join(diskDir, "work")
	for _, dir := range []string{upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("prepare writable disk: %w", err)
		}
	}
	// redirect_dir lets directories of the image be renamed, as programs expect.
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,redirect_dir=on", lowerDir, upper, work)
	if err := (mount{"overlay", newRoot, "overlay", unix.MS_NOATIME, data}).do(); err != nil {
		return nil, err
	}
	disk, err = os.Open(diskDir)
	if err != nil {
		return nil, fmt.Errorf("open writable disk: %w", err)
	}
	return disk, nil
}

// readAhead is the number of sectors of 512 bytes that the kernel reads at once from the
// writable disk for a program that reads a file from its beginning on. With the kernel's
// own 128 KiB, reading a large file under emulation takes a quarter more of CPU time.
const readAhead = 512 << 10 / 512

// setReadAhead sets the read-ahead of a device. On failure the device keeps its own.
func setReadAhead(device string) {
	f, err := os.Open(device)
	if err != nil {
		return
	}
	defer f.Close()
	_ = unix.IoctlSetInt(int(f.Fd()), unix.BLKRASET, readAhead)
}

func mountImage() error {
	var errs []error
	for _, fstype := range rootTypes {
		err := (mount{rootDevice, lowerDir, fstype, unix.MS_RDONLY, ""}).do()
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// switchRoot makes the overlay the root in the way of switch_root(8), because
// pivot_root(2) cannot leave an initramfs.
func switchRoot() error {
	for _, dir := range []string{"/dev", "/proc", "/sys"} {
		target := newRoot + dir
		if err := os.MkdirAll(target, 0o755); err != nil {
			return fmt.Errorf("switch root: %w", err)
		}
		if err := unix.Mount(dir, target, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", dir, err)
		}
	}
	if err := os.Chdir(newRoot); err != nil {
		return fmt.Errorf("switch root: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	return os.Chdir("/")
}

// mountSystem mounts the file systems that programs expect.
func mountSystem() error {
	err := mountAll([]mount{
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"},
		{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
		{"cgroup2", cgroupRoot, "cgroup2", noExec, "nsdelegate"},
	})
	if err != nil {
		return err
	}
	return errors.Join(makeUsualPaths(), openDevices(), showProc())
}

// wholeProc is a proc file system over which the agent mounts nothing.
const wholeProc = "/run/wrenn-proc/whole"

// showProc mounts proc a second time, where root alone can enter. The kernel lets a user
// namespace mount proc only if its mount namespace has one that is visible as a whole
// (mount_too_revealing in fs/namespace.c), which the usual one is not below the identity of
// a sandbox (coverBootID). Rootless containers need it.
func showProc() error {
	if err := os.MkdirAll(filepath.Dir(wholeProc), 0o700); err != nil {
		return err
	}
	return mount{"proc", wholeProc, "proc", noExec, ""}.do()
}

// publicDevices are the devices that every user may open, as udev's rules have it: a user
// of the first needs fusermount3, one of the second a capability in the namespace of the
// network. A kernel may lack them.
var publicDevices = []string{"/dev/fuse", "/dev/net/tun"}

func openDevices() error {
	for _, path := range publicDevices {
		if err := os.Chmod(path, 0o666); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// shareMounts lets mounts reach the mount namespaces that are made later, as container
// engines expect it of the root. It must come after hideKernelFiles: a mount that was
// shared before would pass on the mounts of users to its hidden copy.
func shareMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("share mounts: %w", err)
	}
	return nil
}

// makeUsualPaths makes directories and links that programs expect.
func makeUsualPaths() error {
	if err := os.MkdirAll("/run/lock", 0o1777); err != nil {
		return err
	}
	if err := os.MkdirAll("/tmp", 0o1777); err != nil {
		return err
	}
	for link, target := range map[string]string{
		"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0",
		"/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2",
		"/etc/mtab": "../proc/self/mounts", // fusermount refuses to work without it
	} {
		if err := os.Symlink(target, link); err != nil && !errors.Is(err, os.ErrExist) && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
