package process

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// terminal opens a pseudo terminal of size, owned by uid. The master is
// non-blocking; the slave is for the child's three standard files. The caller
// closes both.
func terminal(size Size, uid uint32) (master *os.File, slave int, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("open /dev/ptmx: %w", err)
	}
	master = os.NewFile(uintptr(fd), "ptmx")
	slave, err = openSlave(fd)
	if err == nil {
		err = setSize(fd, size)
	}
	if err == nil {
		err = unix.Fchown(slave, int(uid), -1)
	}
	if err != nil {
		_ = master.Close()
		if slave >= 0 {
			_ = unix.Close(slave)
		}
		return nil, -1, err
	}
	return master, slave, nil
}

// openSlave unlocks the slave side and opens it through the master, which
// does not depend on the mount at /dev/pts (TIOCGPTPEER, ioctl_tty(2)).
func openSlave(master int) (int, error) {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return -1, fmt.Errorf("unlock terminal: %w", err)
	}
	const flags = unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, flags)
	if errno != 0 {
		return -1, fmt.Errorf("open terminal: %w", errno)
	}
	return int(fd), nil
}

func setSize(fd int, size Size) error {
	ws := &unix.Winsize{Row: size.Rows, Col: size.Cols}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, ws); err != nil {
		return fmt.Errorf("set terminal size: %w", err)
	}
	return nil
}
