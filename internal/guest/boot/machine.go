package boot

import (
	"encoding/binary"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ioctls of random(4).
const (
	rndAddEntropy = 0x40085203
	rndReseedCRNG = 0x5207
)

// Machine changes the running kernel. It implements agent.Kernel.
type Machine struct {
	// disk is the mount of the writable disk below the root.
	disk *os.File
	// ownPorts are the ports on which the agent listens.
	ownPorts []uint16
	release  string
	// diag is a socket to the kernel's socket diagnosis, or -1. It stays open so
	// that clones inherit it.
	diag int
}

// NewMachine returns a Machine whose writable disk is mounted at disk and whose
// agent listens on ownPorts.
func NewMachine(disk *os.File, ownPorts ...uint16) *Machine {
	return &Machine{disk: disk, ownPorts: ownPorts, release: kernelRelease(), diag: -1}
}

// Reseed credits entropy to the kernel's generator and makes it draw a new key
// from it at once, on every CPU.
func (*Machine) Reseed(entropy []byte) error {
	fd, err := unix.Open("/dev/urandom", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/urandom: %w", err)
	}
	defer unix.Close(fd)
	// struct rand_pool_info: bits, bytes, data.
	info := binary.NativeEndian.AppendUint32(nil, uint32(len(entropy)*8))
	info = binary.NativeEndian.AppendUint32(info, uint32(len(entropy)))
	info = append(info, entropy...)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), rndAddEntropy, uintptr(unsafe.Pointer(&info[0]))); errno != 0 {
		return fmt.Errorf("RNDADDENTROPY: %w", errno)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), rndReseedCRNG, 0); errno != 0 {
		return fmt.Errorf("RNDRESEEDCRNG: %w", errno)
	}
	return nil
}

// AdjustClock moves the wall clock by step. Monotonic time, which timers run on,
// does not move.
func (*Machine) AdjustClock(step time.Duration) (moved time.Duration, err error) {
	change := offsetBy(step)
	if _, err := unix.ClockAdjtime(unix.CLOCK_REALTIME, &change); err != nil {
		return 0, fmt.Errorf("clock_adjtime: %w", err)
	}
	return step, nil
}

// offsetBy returns the request that adds step to a clock, as clock_adjtime(2) takes
// it: the seconds rounded down, and nanoseconds that are not negative.
func offsetBy(step time.Duration) unix.Timex {
	ts := unix.NsecToTimespec(int64(step))
	return unix.Timex{
		Modes: unix.ADJ_SETOFFSET | unix.ADJ_NANO,
		Time:  unix.Timeval{Sec: ts.Sec, Usec: ts.Nsec},
	}
}

// Sync writes the writable disk back.
func (m *Machine) Sync() error {
	if err := unix.Syncfs(int(m.disk.Fd())); err != nil {
		return fmt.Errorf("sync disk: %w", err)
	}
	return nil
}

// KernelRelease returns the kernel's release, as uname -r.
func (m *Machine) KernelRelease() string { return m.release }

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}
