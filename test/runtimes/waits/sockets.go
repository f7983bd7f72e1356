package waits

import (
	"errors"

	"golang.org/x/sys/unix"
)

// aLongTime is a timeout, in seconds, that no test sees the end of.
const aLongTime = 100_000

// sockets are calls that wait for a connection or its data.
func sockets() []Wait {
	return []Wait{
		{"accept(2) of TCP", func() (call, error) {
			listener, address, err := listen()
			return call{func() error {
				_, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
				return err
			}, func(int) error {
				_, err := dial(address)
				return err
			}}, err
		}},
		{"recv(2) of TCP", func() (call, error) {
			ends, err := connection()
			return call{reads(ends[0]), writes(ends[1], "x")}, err
		}},
		{"recv(2) of TCP with SO_RCVTIMEO", func() (call, error) {
			ends, err := connection()
			return call{reads(ends[0]), writes(ends[1], "x")},
				errors.Join(err, unix.SetsockoptTimeval(ends[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: aLongTime}))
		}},
		{"recv(2) of a Unix socket", func() (call, error) {
			ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			return call{reads(ends[0]), writes(ends[1], "x")}, err
		}},
		{"send(2) to a full Unix socket", func() (call, error) {
			ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				err = fill(ends[0])
			}
			return call{func() error { return unix.Send(ends[0], []byte("x"), 0) }, drains(ends[1])}, err
		}},
	}
}

// listen returns a TCP socket that listens on the loopback, and its address.
func listen() (fd int, address unix.Sockaddr, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, nil, err
	}
	if err := unix.Listen(fd, 1); err != nil {
		return 0, nil, err
	}
	address, err = unix.Getsockname(fd)
	return fd, address, err
}

func dial(address unix.Sockaddr) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	return fd, unix.Connect(fd, address)
}

// connection returns both ends of a TCP connection over the loopback.
func connection() (ends [2]int, err error) {
	listener, address, err := listen()
	if err != nil {
		return ends, err
	}
	if ends[0], err = dial(address); err != nil {
		return ends, err
	}
	ends[1], _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC)
	return ends, err
}
