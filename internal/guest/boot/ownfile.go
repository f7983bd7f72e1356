package boot

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ownDir is the directory, below the root, of the files that the links in /etc
// name.
const ownDir = "run/wrenn/etc"

// ownFile is a file in /etc that the agent writes: a link there to a file in
// memory. It makes few and bare system calls, because every clone writes these
// files before any user code runs.
//
// Invariants: a zero stamp matches no file; link and content describe the last
// put.
type ownFile struct {
	etc, own, target string
	mode             uint32
	link             stamp
	content          stamp
}

// stamp identifies one version of a file.
type stamp struct {
	dev, ino         uint64
	size             int64
	changed, written unix.Timespec
}

func newOwnFile(root, name string, mode uint32) ownFile {
	return ownFile{
		etc: filepath.Join(root, "etc", name), own: filepath.Join(root, ownDir, name),
		target: "../" + ownDir + "/" + name, mode: mode,
	}
}

// stampOf returns the stamp of path, without following a link, or the zero stamp
// if it cannot be read.
func stampOf(path string) stamp {
	var st unix.Stat_t
	if unix.Fstatat(unix.AT_FDCWD, path, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return stamp{}
	}
	return stamp{dev: st.Dev, ino: st.Ino, size: st.Size, changed: st.Ctim, written: st.Mtim}
}

// linked reports whether the link in /etc is still ours.
func (f *ownFile) linked() bool { return f.link != stamp{} && stampOf(f.etc) == f.link }

// untouched reports whether the file in /etc still has the content of the last
// put.
func (f *ownFile) untouched() bool {
	return f.linked() && f.content != stamp{} && stampOf(f.own) == f.content
}

// put writes content to the file in /etc. A file that a program has put in the
// place of the link is replaced.
func (f *ownFile) put(content string) error {
	if err := rewrite(f.own, content, f.mode); err != nil {
		return err
	}
	f.content = stampOf(f.own)
	if f.linked() {
		return nil
	}
	if target, err := os.Readlink(f.etc); err != nil || target != f.target {
		if err := replaceByLink(f.etc, f.target); err != nil {
			return err
		}
	}
	f.link = stampOf(f.etc)
	return nil
}

// replaceByLink atomically replaces path with a link to target.
func replaceByLink(path, target string) error {
	made := path + ".wrenn-link"
	if err := os.Remove(made); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, made); err != nil {
		return err
	}
	return os.Rename(made, path)
}

// rewrite writes content to the file at path in place, because the file may be
// mounted elsewhere too. If path is no regular file, a new file replaces it.
func rewrite(path, content string, mode uint32) error {
	if overwrite(path, content, mode) == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return overwrite(path, content, mode)
}

// overwrite writes content before it truncates the file, so that no reader finds
// it empty. It does not block on a pipe and follows no link.
func overwrite(path, content string, mode uint32) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, mode)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if n, err := unix.Pwrite(fd, []byte(content), 0); err != nil || n != len(content) {
		return &os.PathError{Op: "write", Path: path, Err: errors.Join(io.ErrShortWrite, err)}
	}
	if st.Size > int64(len(content)) {
		return unix.Ftruncate(fd, int64(len(content)))
	}
	return nil
}

// maxOwnFile is the most bytes read of a file that programs may have written.
const maxOwnFile = 1 << 20

// read returns the content of the file in /etc; a missing file is empty.
func (f *ownFile) read() (string, error) {
	fd, err := unix.Open(f.etc, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ELOOP) {
		return "", nil
	}
	if err != nil {
		return "", &os.PathError{Op: "open", Path: f.etc, Err: err}
	}
	file := os.NewFile(uintptr(fd), f.etc)
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxOwnFile))
	return string(b), err
}
