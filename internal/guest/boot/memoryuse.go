package boot

import (
	"bytes"
	"strconv"

	"golang.org/x/sys/unix"
)

// memoryUse is the use of the sandbox's memory, in bytes.
type memoryUse struct {
	// counted is the memory of processes and of file systems in memory, without the
	// files of the root.
	counted uint64
	// room is the memory until the files of the root and all other memory together use
	// the sizes of both.
	room uint64
}

// look reads the use of memory. There is none as long as it cannot be read.
func (w *MemoryWatch) look() memoryUse {
	text, err := w.meminfo.read()
	if err != nil {
		return memoryUse{room: w.total}
	}
	// Not MemTotal without MemFree, which is 0 as soon as files fill the memory's size.
	// AnonPages includes Shmem here, which includes the files of the root.
	cached, shmem := sizeOf(text, "Cached"), sizeOf(text, "Shmem")
	used := sizeOf(text, "AnonPages") + cached - min(shmem, cached)
	files, disk := w.fileBytes()
	use := memoryUse{counted: used - min(used, files)}
	use.room = w.total + disk - min(use.counted+files, w.total+disk)
	return use
}

// sizeOf returns the size, in bytes, that has a name in the text of /proc/meminfo, or 0.
func sizeOf(text []byte, name string) uint64 {
	start := bytes.Index(text, []byte("\n"+name+":"))
	if start < 0 {
		return 0
	}
	var kilobytes uint64
	for _, c := range text[start+len(name)+2:] {
		switch {
		case c >= '0' && c <= '9':
			kilobytes = kilobytes*10 + uint64(c-'0')
		case c != ' ':
			return kilobytes << 10
		}
	}
	return 0
}

// kernelFile is a file of the kernel that is read again and again. It stays open, and
// is read by bare system calls, because each one takes time that a quiet sandbox
// should not need. One goroutine uses it.
type kernelFile struct {
	path string
	fd   int // plus 1; 0 before it is opened
	buf  [4 << 10]byte
}

// read returns the content, of at most the buffer's size, until the next read.
func (f *kernelFile) read() ([]byte, error) {
	if f.fd == 0 {
		fd, err := unix.Open(f.path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		f.fd = fd + 1
	}
	n, err := unix.Pread(f.fd-1, f.buf[:], 0)
	if err != nil {
		return nil, err
	}
	return f.buf[:n], nil
}

// tasks returns the number of processes and threads of commands.
func (w *MemoryWatch) tasks() (uint64, error) {
	text, err := w.pids.read()
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 64)
}

// fileBytes returns the memory that the files of the root use, and their limit.
func (w *MemoryWatch) fileBytes() (used, limit uint64) {
	var fs unix.Statfs_t
	if unix.Statfs(w.root, &fs) != nil {
		return 0, 0
	}
	return (fs.Blocks - fs.Bfree) * uint64(fs.Bsize), fs.Blocks * uint64(fs.Bsize)
}
