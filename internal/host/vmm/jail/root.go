package jail

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// makeMounts makes this process's mount namespace the one that all jails begin
// as: a read-only root directory with empty places, and nothing of the host's.
// It then says so on standard output and waits for the end of standard input,
// for the agent to take the namespace over.
//
// Copies of this namespace have one mount each. Copies of the host's have
// hundreds on some machines, and taking them off again waits for every CPU.
func makeMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	const root = "/proc" // any directory
	err := unix.Mount("wrenn-jail", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0755,size=64k,nr_inodes=32")
	if err != nil {
		return fmt.Errorf("mount a root: %w", err)
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := errors.Join(os.Mkdir("dev", 0o755), os.Mkdir(filepath.Base(ProgramDir), 0o755)); err != nil {
		return err
	}
	for _, path := range []string{Memory, Kernel, Initrd, Null, KVM} {
		if err := os.WriteFile("."+path, nil, 0o444); err != nil {
			return err
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
	if err := setattr("/", unix.AT_FDCWD, 0, unix.MOUNT_ATTR_RDONLY); err != nil {
		return err
	}
	if _, err := os.Stdout.WriteString(mountsReady); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// mountsReady is the message by which makeMounts reports that it is done.
const mountsReady = "ready\n"

// enterRoot moves this thread into a copy of the empty mount namespace and binds
// the files of s there. It has no mount of the host.
func enterRoot(s Spec) error {
	trees := make([]int, len(s.Binds))
	for i, b := range s.Binds {
		tree, err := openBind(b)
		if err != nil {
			return err
		}
		trees[i] = tree
	}
	// The program's other threads stay where they are and end with the exec.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("leave the working directory: %w", err)
	}
	if err := unix.Setns(s.Mounts, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter the empty mount namespace: %w", err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("copy the empty mount namespace: %w", err)
	}
	for i, b := range s.Binds {
		if err := unix.MoveMount(trees[i], "", unix.AT_FDCWD, b.To, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("bind %s to %s: %w", b.From, b.To, err)
		}
	}
	return nil
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
