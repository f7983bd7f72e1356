package features

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ipc are the ways by which processes speak to each other, beside sockets.
func ipc() []Feature {
	return []Feature{
		{"System V shared memory", "make, map and remove a segment", func() error {
			id, err := unix.SysvShmGet(unix.IPC_PRIVATE, 4096, unix.IPC_CREAT|0o600)
			if err != nil {
				return err
			}
			memory, err := unix.SysvShmAttach(id, 0, 0)
			if err != nil {
				return err
			}
			memory[0] = 1
			_, err = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
			return errors.Join(err, unix.SysvShmDetach(memory))
		}},
		{"System V semaphores", "make and remove one", func() error {
			id, _, err := unix.Syscall(unix.SYS_SEMGET, unix.IPC_PRIVATE, 1, unix.IPC_CREAT|0o600)
			if err != 0 {
				return err
			}
			return errnoOf(unix.Syscall(unix.SYS_SEMCTL, id, 0, unix.IPC_RMID))
		}},
		{"System V message queues", "make and remove one", func() error {
			id, _, err := unix.Syscall(unix.SYS_MSGGET, unix.IPC_PRIVATE, unix.IPC_CREAT|0o600, 0)
			if err != 0 {
				return err
			}
			return errnoOf(unix.Syscall(unix.SYS_MSGCTL, id, unix.IPC_RMID, 0))
		}},
		{"POSIX message queues", "open one and send", func() error {
			name := []byte("probe\x00")
			fd, _, err := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafePointer(&name[0])), unix.O_CREAT|unix.O_RDWR, 0o600, 0, 0, 0)
			if err != 0 {
				return err
			}
			message := []byte("hello")
			return errors.Join(
				errnoOf(unix.Syscall6(unix.SYS_MQ_TIMEDSEND, fd, uintptr(unsafePointer(&message[0])), 5, 0, 0, 0)),
				errnoOf(unix.Syscall(unix.SYS_MQ_UNLINK, uintptr(unsafePointer(&name[0])), 0, 0)))
		}},
		{"pseudo-terminals", "write to one side and read from the other", terminal},
		{"signalfd, timerfd and eventfd", "read a timer and an event", descriptors},
		{"splice", "splice a file into a pipe", func() error {
			return withFile(func(f *os.File) error {
				var pipe [2]int
				if err := unix.Pipe(pipe[:]); err != nil {
					return err
				}
				start := int64(0)
				_, err := unix.Splice(int(f.Fd()), &start, pipe[1], nil, 4096, 0)
				return err
			})
		}},
	}
}

func terminal() error {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer master.Close()
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return err
	}
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY)
	if errno != 0 {
		return errno
	}
	if _, err := unix.Write(int(slave), []byte("hello")); err != nil {
		return err
	}
	got := make([]byte, 8)
	n, err := unix.Read(fd, got)
	return errors.Join(err, want(string(got[:max(n, 0)]) == "hello", "it has %q", got))
}

func descriptors() error {
	var mask unix.Sigset_t
	signals, err := unix.Signalfd(-1, &mask, 0)
	if err != nil {
		return err
	}
	timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, 0)
	if err != nil {
		return err
	}
	soon := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(time.Millisecond))}
	if err := unix.TimerfdSettime(timer, 0, &soon, nil); err != nil {
		return err
	}
	if _, err := unix.Read(timer, make([]byte, 8)); err != nil {
		return err
	}
	event, err := unix.Eventfd(1, 0)
	if err != nil {
		return err
	}
	_, err = unix.Read(event, make([]byte, 8))
	return errors.Join(err, unix.Close(signals), unix.Close(timer), unix.Close(event))
}
