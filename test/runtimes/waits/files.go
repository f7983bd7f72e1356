package waits

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// files are calls that wait for a file, a pipe or a lock.
func files() []Wait {
	return []Wait{
		{"open(2) of a FIFO to read", func() (call, error) { return openFIFO(unix.O_RDONLY) }},
		{"open(2) of a FIFO to write", func() (call, error) { return openFIFO(unix.O_WRONLY) }},
		{"read(2) of a pipe", func() (call, error) {
			var p [2]int
			err := unix.Pipe2(p[:], unix.O_CLOEXEC)
			return call{reads(p[0]), writes(p[1], "x")}, err
		}},
		{"write(2) to a full pipe", fullPipe},
		{"splice(2) of an empty pipe", func() (call, error) {
			var p, to [2]int
			err := errors.Join(unix.Pipe2(p[:], unix.O_CLOEXEC), unix.Pipe2(to[:], unix.O_CLOEXEC))
			return call{func() error {
				_, err := unix.Splice(p[0], nil, to[1], nil, 1, 0)
				return err
			}, writes(p[1], "x")}, err
		}},
		{"read(2) of a terminal", terminal},
		{"read(2) of an eventfd", func() (call, error) {
			fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
			return call{reads(fd), writes(fd, "\x01\x00\x00\x00\x00\x00\x00\x00")}, err
		}},
		{"read(2) of a timerfd", func() (call, error) {
			fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC)
			return call{reads(fd), func(int) error {
				return unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(1)}, nil)
			}}, err
		}},
		{"read(2) of inotify", watch},
		{"flock(2)", func() (call, error) {
			fds, err := twice()
			return call{func() error { return unix.Flock(fds[1], unix.LOCK_EX) }, func(int) error {
				return unix.Flock(fds[0], unix.LOCK_UN)
			}}, errors.Join(err, unix.Flock(fds[0], unix.LOCK_EX))
		}},
		{"fcntl(2) with F_OFD_SETLKW", func() (call, error) {
			fds, err := twice()
			lock, unlock := unix.Flock_t{Type: unix.F_WRLCK}, unix.Flock_t{Type: unix.F_UNLCK}
			return call{func() error { return unix.FcntlFlock(uintptr(fds[1]), unix.F_OFD_SETLKW, &lock) }, func(int) error {
				return unix.FcntlFlock(uintptr(fds[0]), unix.F_OFD_SETLK, &unlock)
			}}, errors.Join(err, unix.FcntlFlock(uintptr(fds[0]), unix.F_OFD_SETLK, &lock))
		}},
	}
}

// reads returns the call of read(2) that waits for something in fd.
func reads(fd int) func() error {
	return func() error {
		n, err := unix.Read(fd, make([]byte, 4096))
		if err == nil && n == 0 {
			return errors.New("end of file")
		}
		return err
	}
}

// writes returns the event of text in fd.
func writes(fd int, text string) func(int) error {
	return func(int) error {
		_, err := unix.Write(fd, []byte(text))
		return err
	}
}

// openFIFO returns the call that opens one end of a FIFO.
func openFIFO(mode int) (call, error) {
	dir, err := os.MkdirTemp("/var/tmp", "waits")
	if err != nil {
		return call{}, err
	}
	path := filepath.Join(dir, "fifo")
	return call{func() error {
		_, err := unix.Open(path, mode|unix.O_CLOEXEC, 0)
		return err
	}, func(int) error {
		// Opening both ends never waits, and ends the wait for either (fifo(7)).
		_, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		return err
	}}, unix.Mkfifo(path, 0o600)
}

func fullPipe() (call, error) {
	var p [2]int
	err := unix.Pipe2(p[:], unix.O_CLOEXEC)
	if err == nil {
		err = fill(p[1])
	}
	return call{func() error {
		_, err := unix.Write(p[1], []byte("x"))
		return err
	}, drains(p[0])}, err
}

// fill writes to fd until that would wait.
func fill(fd int) error {
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	for {
		if _, err := unix.Write(fd, make([]byte, 4096)); errors.Is(err, unix.EAGAIN) {
			return unix.SetNonblock(fd, false)
		} else if err != nil {
			return err
		}
	}
}

// drains returns the event that fd, the other end of a full one, is read empty.
func drains(fd int) func(int) error {
	return func(int) error {
		if err := unix.SetNonblock(fd, true); err != nil {
			return err
		}
		for {
			if _, err := unix.Read(fd, make([]byte, 4096)); errors.Is(err, unix.EAGAIN) {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
}

// terminal returns the call that waits for a line.
func terminal() (call, error) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return call{}, err
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return call{}, err
	}
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return call{}, errno
	}
	return call{reads(int(slave)), writes(master, "x\n")}, nil
}

// watch returns the call that waits for a change of a directory.
func watch() (call, error) {
	dir, err := os.MkdirTemp("/var/tmp", "waits")
	if err != nil {
		return call{}, err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return call{}, err
	}
	_, err = unix.InotifyAddWatch(fd, dir, unix.IN_CREATE)
	return call{reads(fd), func(int) error {
		return os.WriteFile(filepath.Join(dir, fmt.Sprint(time.Now().UnixNano())), nil, 0o600)
	}}, err
}

// twice opens a new file twice.
func twice() (fds [2]int, err error) {
	f, err := os.CreateTemp("/var/tmp", "waits")
	if err != nil {
		return fds, err
	}
	for i := range fds {
		if fds[i], err = unix.Open(f.Name(), unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			return fds, err
		}
	}
	return fds, f.Close()
}
