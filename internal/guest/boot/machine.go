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

// clockTolerance is the largest error of the wall clock that is not corrected:
// small steps do more harm than good.
const clockTolerance = time.Millisecond

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

// SetClock sets the wall clock. Monotonic time, which timers run on, does not
// move.
func (*Machine) SetClock(now time.Time) (step time.Duration, err error) {
	// Unix times on both sides: differences must not be monotonic ones.
	step = time.Duration(now.UnixNano() - time.Now().UnixNano())
	if step.Abs() < clockTolerance {
		return 0, nil
	}
	ts := unix.NsecToTimespec(now.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return 0, err
	}
	return step, nil
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
