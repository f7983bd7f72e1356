package boot

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// deviceTimeout is how long a disk may take to appear.
const deviceTimeout = 20 * time.Second

// uevents receives the kernel's announcements of devices.
type uevents struct{ fd int }

// listenUevents must come before the modules are loaded, so that no
// announcement is missed.
func listenUevents() (*uevents, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("open uevent socket: %w", err)
	}
	// The kernel sends to group 1.
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("bind uevent socket: %w", err)
	}
	return &uevents{fd: fd}, nil
}

func (u *uevents) close() { _ = unix.Close(u.fd) }

// await returns once every path exists.
func (u *uevents) await(paths ...string) error {
	deadline := time.Now().Add(deviceTimeout)
	for _, path := range paths {
		for !exists(path) {
			left := time.Until(deadline)
			if left <= 0 {
				return fmt.Errorf("%s did not appear in %s", path, deviceTimeout)
			}
			if err := u.next(left); err != nil {
				return err
			}
		}
	}
	return nil
}

// next waits for any announcement. A loss of announcements (ENOBUFS) counts as
// one.
func (u *uevents) next(timeout time.Duration) error {
	fds := []unix.PollFd{{Fd: int32(u.fd), Events: unix.POLLIN}}
	_, err := unix.Poll(fds, int(timeout/time.Millisecond)+1)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for devices: %w", err)
	}
	var buf [4096]byte
	_, _, err = unix.Recvfrom(u.fd, buf[:], 0)
	if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for devices: %w", err)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
