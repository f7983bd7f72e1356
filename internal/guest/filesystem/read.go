package filesystem

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Content is a file open for reading. The caller closes it.
type Content struct {
	Name       string
	ModifiedAt time.Time
	// Size is -1 when it is known only at the end: files that the kernel
	// generates (/proc, /sys) report zero and have content.
	Size int64
	// Tag changes with the content: letters, digits and "-". It is empty for a file of
	// unknown size.
	Tag  string
	file *os.File
	// head is the part of a file of unknown size that Open has read.
	head []byte
}

// headSize is the number of bytes that Open reads of a file of unknown size. Some
// kernel files fail a read whose buffer is too small for all of their content.
const headSize = 32 << 10

// Open opens the regular file at path. A missing file is NotFound; a directory or
// any other file is Invalid. It never opens a file that could block or has an effect
// when it is opened.
func (f *Files) Open(path string) (*Content, error) {
	file, err := openRegular(path)
	if errors.Is(err, syscall.ENOTDIR) {
		return nil, errMissing(path, err)
	}
	if err != nil {
		return nil, classify(path, err)
	}
	fi, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return nil, classify(path, err)
	}
	c := &Content{Name: filepath.Base(path), ModifiedAt: fi.ModTime(), Size: fi.Size(), file: file}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		c.Tag = fmt.Sprintf("%x-%x-%x", st.Ino, st.Ctim.Nano(), st.Size)
	}
	if generated(file) {
		c.Tag = ""
		c.Size = -1
		if err := c.readHead(); err != nil {
			_ = file.Close()
			return nil, errUnreadable(path, err)
		}
	}
	return c, nil
}

// readHead reads the beginning of a file of unknown size. Many files that the
// kernel generates, such as /proc/self/mem, open but cannot be read; Open must
// report that before the caller has announced any content.
func (c *Content) readHead() error {
	head := make([]byte, headSize)
	n, err := c.Read(head)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	c.head = head[:n]
	return nil
}

// openRegular opens path for reading if, and only if, it is a regular file. The
// first descriptor only names the file (O_PATH, open(2)), so that the checked file
// is the opened one and a pipe is never opened.
func openRegular(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		return nil, errIsDirectory(path)
	default:
		return nil, errSpecial(path)
	}
	in, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	// O_NONBLOCK because reads of some kernel files block, such as /proc/kmsg.
	return os.NewFile(uintptr(in), path), nil
}

// generated reports whether file is in a file system whose sizes mean nothing.
func generated(file *os.File) bool {
	var st unix.Statfs_t
	err := onDescriptor(file, func(fd int) (err error) { return unix.Fstatfs(fd, &st) })
	if err != nil {
		return false
	}
	switch int64(st.Type) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEBUGFS_MAGIC,
		unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC:
		return true
	}
	return false
}

// onDescriptor calls fn with file's descriptor, which stays non-blocking.
func onDescriptor(file *os.File, fn func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var fnErr error
	if err := raw.Control(func(fd uintptr) { fnErr = fn(int(fd)) }); err != nil {
		return err
	}
	return fnErr
}

// Read implements io.Reader. A kernel file on which a read would block is at its
// end.
func (c *Content) Read(p []byte) (n int, err error) {
	if c.Size >= 0 {
		return c.file.Read(p)
	}
	if len(c.head) > 0 {
		n = copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	err = onDescriptor(c.file, func(fd int) (err error) {
		for {
			if n, err = unix.Read(fd, p); !errors.Is(err, unix.EINTR) {
				return err
			}
		}
	})
	switch {
	case errors.Is(err, unix.EAGAIN), err == nil && n == 0 && len(p) > 0:
		return 0, io.EOF
	case err != nil:
		return 0, &os.PathError{Op: "read", Path: c.file.Name(), Err: err}
	}
	return n, nil
}

// Cut limits the content, of known size, to length bytes from offset on, of which a
// negative one counts from the end, and 0 as a length means to the end. It returns the
// offset. The content is then empty if the file has nothing in the range.
func (c *Content) Cut(offset int64, length uint64) (int64, error) {
	total := c.Size
	if offset < 0 {
		offset = max(total+offset, 0)
	}
	offset = min(offset, total)
	c.Size = total - offset
	if length > 0 && length < uint64(c.Size) {
		c.Size = int64(length)
	}
	_, err := c.file.Seek(offset, io.SeekStart)
	return offset, err
}

// Seekable returns the file for http.ServeContent. It must not be called on
// content of unknown size.
func (c *Content) Seekable() io.ReadSeeker { return c.file }

// Close closes the file.
func (c *Content) Close() error { return c.file.Close() }
