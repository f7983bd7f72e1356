package network

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/statfs"
)

// nameDir is a directory of named network namespaces. A name is a file on
// which the namespace is mounted, which keeps the namespace alive without a
// process.
type nameDir string

// sharedNames is the directory of ip-netns(8). Agents before this one kept
// their names there. This one only takes such names over and removes them.
const sharedNames nameDir = "/run/netns"

// namesOf returns the directory of the names of the pool called pool.
func namesOf(pool string) nameDir { return sharedNames + nameDir("-"+pool) }

func (d nameDir) path(name string) string { return filepath.Join(string(d), name) }

// prepare makes the directory and mounts it on itself, private: a name that is
// mounted in it is then in no other mount namespace, and the kernel need not
// copy it to each of them. It may be called again.
func (d nameDir) prepare() error {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return err
	}
	n, err := mountsAt(string(d))
	if err == nil && n == 0 {
		err = unix.Mount(string(d), string(d), "", unix.MS_BIND, "")
	}
	if err != nil {
		return err
	}
	// Also a mount that was there: an agent may have been killed in between.
	return unix.Mount("", string(d), "", unix.MS_PRIVATE, "")
}

// retire removes the directory if no name is in it.
func (d nameDir) retire() error {
	entries, err := os.ReadDir(string(d))
	if err != nil || len(entries) > 0 {
		return ignore(err, unix.ENOENT)
	}
	if err := unix.Unmount(string(d), unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return ignore(unix.Rmdir(string(d)), unix.ENOENT, unix.ENOTEMPTY)
}

// claim creates the file of a name, holding mark until the namespace is mounted
// over it. It fails with fs.ErrExist if the name is taken by anyone.
func (d nameDir) claim(name, mark string) error {
	f, err := os.OpenFile(d.path(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	_, err = f.WriteString(mark)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		_ = d.drop(name)
	}
	return err
}

// bind gives the calling thread's namespace the claimed name.
func (d nameDir) bind(name string) error {
	return unix.Mount("/proc/thread-self/ns/net", d.path(name), "", unix.MS_BIND, "")
}

// open opens a named namespace and returns it with its inode number, which
// tells it from a later one of the same name. It fails with fault.NotFound if
// the name is not that of a namespace.
func (d nameDir) open(name string) (*os.File, uint64, error) {
	f, err := os.Open(d.path(name))
	if err != nil {
		return nil, 0, fault.Wrap(err, fault.NotFound, "netns_missing", "the sandbox's network namespace is gone")
	}
	raw := int(f.Fd())
	var st unix.Stat_t
	fs, err := statfs.File(f)
	if err := errors.Join(err, unix.Fstat(raw, &st)); err != nil {
		_ = f.Close()
		return nil, 0, fault.Wrap(err, fault.Internal, "netns_unreadable", "the sandbox's network namespace cannot be read")
	}
	if fs.Type != unix.NSFS_MAGIC {
		_ = f.Close()
		return nil, 0, fault.New(fault.NotFound, "netns_missing", "the sandbox's network namespace is gone")
	}
	return f, st.Ino, nil
}

// drop removes a name, mounted or not. The namespace itself and everything in
// it go as soon as no process and no open file uses it. A name that is not
// there is success.
func (d nameDir) drop(name string) error {
	err := unix.Unmount(d.path(name), unix.MNT_DETACH)
	if err := ignore(err, unix.EINVAL, unix.ENOENT); err != nil {
		return err
	}
	err = unix.Unlink(d.path(name))
	if errors.Is(err, unix.EBUSY) {
		err = d.dropHidden(name)
	}
	return ignore(err, unix.ENOENT)
}

// dropHidden removes a name that unlink(2) refuses with EBUSY: a mount on it is
// still in this mount namespace, where no path leads to it any more, because
// its directory was mounted over afterwards. unlink(2) looks at the mounts of
// the caller's namespace only and takes those of all others off the name
// (kernel 3.18 and later). The name is therefore removed from a mount namespace
// that has nothing but the directory.
func (d nameDir) dropHidden(name string) error {
	return onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		// A fresh mount of the directory is the new root. It is bound without
		// the mounts below it.
		if err := unix.Mount(string(d), string(d), "", unix.MS_BIND, ""); err != nil {
			return err
		}
		if err := unix.Chdir(string(d)); err != nil {
			return err
		}
		if err := unix.PivotRoot(".", "."); err != nil {
			return err
		}
		if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
			return err
		}
		return unix.Unlink("/" + name)
	})
}

// list returns the names that match accepts, namespaces or not.
func (d nameDir) list(accept func(name string) bool) ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, ignore(err, unix.ENOENT)
	}
	var names []string
	for _, e := range entries {
		if accept(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// mountsAt counts the mounts at path in this mount namespace, hidden ones
// included.
func mountsAt(path string) (int, error) {
	at, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return m.Mountpoint != path, false })
	return len(at), err
}

// ignore returns err unless it is one of harmless.
func ignore(err error, harmless ...error) error {
	for _, h := range harmless {
		if errors.Is(err, h) {
			return nil
		}
	}
	return err
}
