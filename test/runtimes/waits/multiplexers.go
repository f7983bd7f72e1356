package waits

import (
	"errors"

	"golang.org/x/sys/unix"
)

// multiplexers are calls that wait for one of several descriptors. Each waits for a
// pipe.
func multiplexers() []Wait {
	return []Wait{
		{"poll(2)", forPipe(func(fd int) (int, error) { return unix.Poll(input(fd), -1) })},
		{"poll(2) with a timeout", forPipe(func(fd int) (int, error) { return unix.Poll(input(fd), aLongTime*1000) })},
		{"ppoll(2) with a timeout", forPipe(func(fd int) (int, error) {
			return unix.Ppoll(input(fd), &unix.Timespec{Sec: aLongTime}, nil)
		})},
		{"select(2)", forPipe(func(fd int) (int, error) { return selects(fd, nil) })},
		{"select(2) with a timeout", forPipe(func(fd int) (int, error) { return selects(fd, &unix.Timeval{Sec: aLongTime}) })},
		{"epoll_wait(2)", forPipe(func(fd int) (int, error) { return epoll(fd, -1) })},
		{"epoll_wait(2) with a timeout", forPipe(func(fd int) (int, error) { return epoll(fd, aLongTime*1000) })},
	}
}

// forPipe returns what prepares a call that waits for something to read in a pipe. It
// returns the number of descriptors that are ready.
func forPipe(waitFor func(fd int) (int, error)) func() (call, error) {
	return func() (call, error) {
		var p [2]int
		err := unix.Pipe2(p[:], unix.O_CLOEXEC)
		return call{func() error {
			n, err := waitFor(p[0])
			if err == nil && n != 1 {
				return errors.New("times out")
			}
			return err
		}, writes(p[1], "x")}, err
	}
}

func input(fd int) []unix.PollFd { return []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}} }

func selects(fd int, timeout *unix.Timeval) (int, error) {
	var set unix.FdSet
	set.Set(fd)
	return unix.Select(fd+1, &set, nil, nil, timeout)
}

func epoll(fd, timeout int) (int, error) {
	set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return 0, err
	}
	if err := unix.EpollCtl(set, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
		return 0, err
	}
	return unix.EpollWait(set, make([]unix.EpollEvent, 1), timeout)
}
