package filesystem

import (
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Write describes the file that Files.Write replaces.
type Write struct {
	Path string
	// Owner owns a new file and the parents that are made.
	Owner Owner
	// Chown gives an existing file to Owner as well. Without it the file keeps
	// its owner and group.
	Chown bool
	// Mode holds permission bits. Nil keeps those of an existing file; a new file
	// gets 0644.
	Mode *uint32
	// Metadata replaces all metadata of the file. See ValidateMetadata.
	Metadata map[string]string
}

// maxLinks is how many links the kernel follows at the end of a path (path_resolution(7)).
const maxLinks = 40

// writeBuffer is the size, in bytes, of the pieces in which content is written.
const writeBuffer = 128 << 10

// Write replaces the file at w.Path with the content of r and returns its
// size. Missing parents are made. The content goes to a temporary file beside
// it first: on any error, of r too, the path is as it was. A link is followed;
// a directory is reason is_directory, another special file and a path in a file
// system of the kernel (such as /proc) Invalid, a full disk reason
// guest_disk_full.
func (f *Files) Write(w Write, r io.Reader) (int64, error) {
	if err := ValidateMetadata(w.Metadata); err != nil {
		return 0, err
	}
	path, existing, err := target(w.Path)
	if err != nil {
		return 0, err
	}
	mode, owner := os.FileMode(0o644), w.Owner
	if existing != nil {
		mode = existing.Mode().Perm()
		if !w.Chown {
			owner = ownerOf(existing)
		}
	}
	if w.Mode != nil {
		mode = os.FileMode(*w.Mode & 0o777)
	}
	if err := checkWritable(filepath.Dir(path), w.Path); err != nil {
		return 0, err
	}
	if err := makeParents(filepath.Dir(path), w.Owner); err != nil {
		return 0, err
	}
	prefix := temporaryNew
	if existing != nil {
		prefix = temporaryAgain
	}
	return replaceFile(path, prefix, r, f.large, func(tmp *os.File) error {
		if err := tmp.Chown(int(owner.UID), int(owner.GID)); err != nil {
			return err
		}
		if err := tmp.Chmod(mode); err != nil {
			return err
		}
		return onDescriptor(tmp, func(fd int) error { return writeMetadata(fd, w.Metadata) })
	})
}

// target follows the links at the end of path and returns the file to replace.
// existing is nil when there is none yet.
func target(path string) (replace string, existing os.FileInfo, err error) {
	given := path
	for range maxLinks {
		fi, err := os.Lstat(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return path, nil, nil
		case errors.Is(err, syscall.ENOTDIR):
			return "", nil, errNotDirectory(filepath.Dir(given), err)
		case err != nil:
			return "", nil, classify(given, err)
		case fi.IsDir():
			return "", nil, errIsDirectory(given)
		case fi.Mode().IsRegular():
			return path, fi, nil
		case fi.Mode()&os.ModeSymlink == 0:
			return "", nil, errSpecial(given)
		}
		link, err := os.Readlink(path)
		if err != nil {
			return "", nil, classify(given, err)
		}
		if !filepath.IsAbs(link) {
			// Not cleaned: the kernel resolves ".." after a linked directory.
			link = filepath.Dir(path) + "/" + link
		}
		path = link
	}
	return "", nil, fault.Wrap(syscall.ELOOP, fault.Invalid, "invalid_path", "path '%s' is a loop of links", given)
}

// ownerOf returns the owner of the file that fi describes.
func ownerOf(fi os.FileInfo) Owner {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return Owner{UID: st.Uid, GID: st.Gid}
	}
	return Owner{}
}

// kernelFileSystems are the file systems whose files only the kernel creates, by
// the magic numbers of statfs(2).
var kernelFileSystems = map[int64]string{
	unix.PROC_SUPER_MAGIC: "proc", unix.SYSFS_MAGIC: "sysfs", unix.CGROUP2_SUPER_MAGIC: "cgroup2",
	unix.CGROUP_SUPER_MAGIC: "cgroup", unix.DEVPTS_SUPER_MAGIC: "devpts", unix.DEBUGFS_MAGIC: "debugfs",
	unix.TRACEFS_MAGIC: "tracefs", unix.SECURITYFS_MAGIC: "securityfs", unix.BPF_FS_MAGIC: "bpf",
}

// checkWritable refuses dir, or the closest parent that exists, if it lies in a
// file system of the kernel: files there cannot be replaced. given is the path
// to name in the error.
func checkWritable(dir, given string) error {
	var st unix.Statfs_t
	for unix.Statfs(dir, &st) != nil {
		if dir == "/" || dir == "." {
			return nil // creating the file reports the error
		}
		dir = filepath.Dir(dir)
	}
	if name, ok := kernelFileSystems[st.Type]; ok {
		return fault.New(fault.Invalid, "invalid_path",
			"path '%s' is in the kernel's %s file system, which holds no files to replace; run a command that writes there", given, name)
	}
	return nil
}

// The names of temporary files begin with one of these. The second is for a file that
// replaces another one. Watches hide them, and tell from them if a rename has created a
// file.
const (
	temporaryNew   = ".wrenn-new-"
	temporaryAgain = ".wrenn-again-"
)

// temporaryName returns an unused name in the directory of path, for a file that is new
// there.
func temporaryName(path string) string { return temporaryNameWith(path, temporaryNew) }

func temporaryNameWith(path, prefix string) string {
	dir := path[:strings.LastIndexByte(path, '/')+1]
	return dir + prefix + rand.Text()
}

// replaceFile puts the content of r at path by writing a temporary file, whose name
// begins with prefix, preparing it (owner, mode) and renaming it.
func replaceFile(path, prefix string, r io.Reader, large large, prepare func(*os.File) error) (size int64, err error) {
	tmp, err := os.OpenFile(temporaryNameWith(path, prefix), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, classify(path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	out := &output{file: tmp, large: large}
	if from, ok := r.(io.WriterTo); ok {
		size, err = from.WriteTo(out)
	} else {
		size, err = out.copyFrom(r)
	}
	if finishErr := out.finish(); err == nil {
		err = finishErr
	}
	if err == nil {
		err = prepare(tmp)
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return 0, classify(path, err)
	}
	return size, nil
}

// ReplaceSystemFile replaces a small file such as /etc/hosts. An existing file keeps
// its mode and owner; a new one gets mode and root. A link is replaced by a file,
// because those in images are often broken. Equal content is not written, so that a
// full disk does not matter then.
func ReplaceSystemFile(path, content string, mode os.FileMode) error {
	uid, gid := 0, 0
	if fi, err := os.Lstat(path); err == nil && fi.Mode().IsRegular() {
		if have, err := os.ReadFile(path); err == nil && string(have) == content {
			return nil
		}
		mode = fi.Mode().Perm()
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			uid, gid = int(st.Uid), int(st.Gid)
		}
	}
	_, err := replaceFile(path, temporaryAgain, strings.NewReader(content), large{}, func(tmp *os.File) error {
		if os.Getuid() == 0 {
			if err := tmp.Chown(uid, gid); err != nil {
				return err
			}
		}
		return tmp.Chmod(mode)
	})
	return err
}
