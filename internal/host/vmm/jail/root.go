package jail

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// enterRoot makes the root directory of s and moves the process into it. The
// host's mounts are detached from its namespace.
func enterRoot(s Spec) error {
	// Nothing that is mounted from here on may reach the host.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// All before the new root covers Root, below which sources may lie.
	trees := make([]int, len(s.Binds))
	for i, b := range s.Binds {
		tree, err := openBind(b)
		if err != nil {
			return err
		}
		trees[i] = tree
	}
	err := unix.Mount("wrenn-jail", s.Root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0755,size=256k,nr_inodes=512")
	if err != nil {
		return fmt.Errorf("mount a root: %w", err)
	}
	if err := unix.Chdir(s.Root); err != nil {
		return err
	}
	for i, b := range s.Binds {
		if err := place(trees[i], b); err != nil {
			return fmt.Errorf("bind %s: %w", b.From, err)
		}
	}
	// pivot_root(2), notes: the old root is stacked over the new one, and the
	// working directory is still the new one.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the host's files: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	return setattr("/", unix.AT_FDCWD, 0, unix.MOUNT_ATTR_RDONLY)
}

// openBind makes a detached copy of the mount at b.From, with the restrictions
// of b on it from the first moment.
func openBind(b Bind) (int, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, b.From, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", b.From, err)
	}
	attrs := uint64(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOATIME)
	if !b.Exec {
		attrs |= unix.MOUNT_ATTR_NOEXEC
	}
	if !b.Write {
		attrs |= unix.MOUNT_ATTR_RDONLY
	}
	if !b.Device {
		attrs |= unix.MOUNT_ATTR_NODEV
	}
	return tree, setattr("", tree, unix.AT_EMPTY_PATH, attrs)
}

func setattr(path string, dir int, flags uint, attrs uint64) error {
	attr := unix.MountAttr{Attr_set: attrs}
	if attrs&unix.MOUNT_ATTR_NOATIME != 0 {
		attr.Attr_clr = unix.MOUNT_ATTR__ATIME
	}
	if err := unix.MountSetattr(dir, path, flags, &attr); err != nil {
		return fmt.Errorf("restrict mount %q: %w", path, err)
	}
	return nil
}

// place mounts tree at b.To below the working directory.
func place(tree int, b Bind) error {
	var st unix.Stat_t
	if err := unix.Fstatat(tree, "", &st, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	to := filepath.Join(".", filepath.Clean("/"+b.To))
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
	} else if err := touch(to); err != nil {
		return err
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, to, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return err
	}
	return unix.Close(tree)
}

func touch(path string) error {
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o444)
	if errors.Is(err, unix.ENOENT) {
		if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			fd, err = unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o444)
		}
	}
	if err != nil {
		return err
	}
	return unix.Close(fd)
}
