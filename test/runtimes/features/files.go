package features

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// unsafePointer is for arguments of system calls that package unix does not wrap.
func unsafePointer[T any](p *T) unsafe.Pointer { return unsafe.Pointer(p) }

// errnoOf is the error of a raw system call.
func errnoOf(_, _ uintptr, err unix.Errno) error {
	if err != 0 {
		return err
	}
	return nil
}

// withFile calls do with a new file of some bytes on the sandbox's disk.
func withFile(do func(f *os.File) error) error {
	return inDir(func(dir string) error {
		f, err := os.Create(filepath.Join(dir, "file"))
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.WriteString(strings.Repeat("content ", 4096)); err != nil {
			return err
		}
		return do(f)
	})
}

// fileContents are operations on the data of files on the sandbox's disk.
func fileContents() []Feature {
	return []Feature{
		{"O_TMPFILE", "open a file without a name", func() error {
			fd, err := unix.Open("/var/tmp", unix.O_TMPFILE|unix.O_RDWR, 0o600)
			return errors.Join(err, unix.Close(max(fd, 0)))
		}},
		{"O_DIRECT", "open a file with it", func() error {
			return withFile(func(f *os.File) error {
				fd, err := unix.Open(f.Name(), unix.O_DIRECT|unix.O_RDONLY, 0)
				if err != nil {
					return err
				}
				return unix.Close(fd)
			})
		}},
		{"fallocate", "reserve 1 MiB", func() error {
			return withFile(func(f *os.File) error { return unix.Fallocate(int(f.Fd()), 0, 0, 1<<20) })
		}},
		{"hole punching", "fallocate(PUNCH_HOLE)", func() error {
			return withFile(func(f *os.File) error {
				return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096)
			})
		}},
		{"SEEK_HOLE", "find the end of the data", func() error {
			return withFile(func(f *os.File) error {
				if err := f.Truncate(1 << 20); err != nil {
					return err
				}
				_, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_HOLE)
				return err
			})
		}},
		{"copy_file_range", "copy 4 KiB", func() error {
			return withFile(func(from *os.File) error {
				return withFile(func(to *os.File) error {
					start := int64(0)
					_, err := unix.CopyFileRange(int(from.Fd()), &start, int(to.Fd()), nil, 4096, 0)
					return err
				})
			})
		}},
		{"shared writable mapping", "a file has the bytes written to its mapping", sharedMapping},
		{"memfd with seals", "a sealed file refuses a write", sealedMemory},
		{"open file description locks", "lock a file", func() error {
			return withFile(func(f *os.File) error {
				return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
			})
		}},
		{"leases", "take a lease of a file", func() error {
			return withFile(func(f *os.File) error {
				_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
				return err
			})
		}},
		{"inotify", "an event of a new file", watched},
		{"fanotify", "watch a directory", func() error {
			fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF, unix.O_RDONLY)
			if err != nil {
				return err
			}
			return errors.Join(unix.FanotifyMark(fd, unix.FAN_MARK_ADD, unix.FAN_OPEN, unix.AT_FDCWD, "/etc"), unix.Close(fd))
		}},
		{"io_uring", "set up a ring", func() error {
			params := make([]byte, 120)
			return errnoOf(unix.Syscall(unix.SYS_IO_URING_SETUP, 4, uintptr(unsafePointer(&params[0])), 0))
		}},
	}
}

func sharedMapping() error {
	return withFile(func(f *os.File) error {
		memory, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		memory[0] = 'X'
		first := make([]byte, 1)
		_, err = f.ReadAt(first, 0)
		return errors.Join(err, want(first[0] == 'X', "the file has %q", first), unix.Munmap(memory))
	})
}

func sealedMemory() error {
	fd, err := unix.MemfdCreate("probe", unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte("x"))
	return want(errors.Is(err, unix.EPERM), "a write had the error %v", err)
}

func watched() error {
	return inDir(func(dir string) error {
		fd, err := unix.InotifyInit1(unix.IN_NONBLOCK)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o600); err != nil {
			return err
		}
		event := make([]byte, 256)
		return soon("no event arrived", func() bool {
			n, err := unix.Read(fd, event)
			return err == nil && n > 0
		})
	})
}
