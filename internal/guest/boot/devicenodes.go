package boot

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// deviceBytes limits the file system in memory that holds the devices.
const deviceBytes = 64 << 10

// replaceDevices puts the devices of the runtime into a file system with a limit.
func replaceDevices() error {
	const dev = "/dev"
	var nodes []deviceNode
	err := filepath.WalkDir(dev, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		node, err := readDeviceNode(path)
		if err != nil {
			return err
		}
		if path != dev {
			nodes = append(nodes, node)
		}
		if path == "/dev/pts" || path == "/dev/shm" {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := unix.Unmount(dev, unix.MNT_DETACH); err != nil {
		return err
	}
	if err := (mount{"tmpfs", dev, "tmpfs", unix.MS_NOSUID, fmt.Sprintf("mode=0755,size=%d", deviceBytes)}).do(); err != nil {
		return err
	}
	for _, n := range nodes { // directories come before their content
		if err := n.create(); err != nil {
			return err
		}
	}
	return nil
}

// deviceNode is a file below /dev: a device, a directory or a link.
type deviceNode struct {
	path   string
	stat   unix.Stat_t
	target string // of a link
}

func readDeviceNode(path string) (n deviceNode, err error) {
	n.path = path
	if err := unix.Lstat(path, &n.stat); err != nil {
		return n, err
	}
	if n.stat.Mode&unix.S_IFMT == unix.S_IFLNK {
		n.target, err = os.Readlink(path)
	}
	return n, err
}

func (n deviceNode) create() error {
	switch n.stat.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return os.Symlink(n.target, n.path)
	case unix.S_IFDIR:
		if err := os.Mkdir(n.path, 0o755); err != nil {
			return err
		}
	default:
		if err := unix.Mknod(n.path, n.stat.Mode, int(n.stat.Rdev)); err != nil {
			return &os.PathError{Op: "mknod", Path: n.path, Err: err}
		}
	}
	return unix.Chmod(n.path, n.stat.Mode&0o7777)
}
