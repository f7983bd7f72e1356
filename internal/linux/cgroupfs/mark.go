package cgroupfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Mark tells when the memory of a group exceeds a number of bytes. Nothing runs until
// then: the kernel sends the notice. One goroutine at a time may use it; any may close
// it.
//
// Cgroups v1 tell of each crossing in either direction (admin-guide/cgroup-v1/memory.rst,
// memory thresholds). Cgroups v2 have no thresholds. There the mark is memory.high, above
// which the kernel slows processes that take more memory; Disarm removes it.
type Mark struct {
	notices waiter
	high    string // the path of memory.high; empty for cgroups v1
	bytes   uint64
}

// waiter waits for a notice of the kernel. Close ends a Wait that is under way, which then
// is os.ErrClosed.
type waiter interface {
	Wait() error
	Close() error
}

// MarkAt returns a Mark of some bytes, which count like Used. It is not armed.
func (m Memory) MarkAt(bytes uint64) (*Mark, error) {
	if m.v1 {
		return m.threshold(bytes)
	}
	notices, err := watchEvents(filepath.Join(m.dir, "memory.events"))
	if err != nil {
		return nil, err
	}
	return &Mark{notices: notices, high: filepath.Join(m.dir, "memory.high"), bytes: bytes}, nil
}

func (m Memory) threshold(bytes uint64) (*Mark, error) {
	usage, err := os.Open(filepath.Join(m.dir, "memory.usage_in_bytes"))
	if err != nil {
		return nil, err
	}
	defer usage.Close() // the kernel needs it until the registration
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch a memory group: %w", err)
	}
	notices := os.NewFile(uintptr(fd), "memory threshold")
	line := fmt.Sprintf("%d %d %d", fd, usage.Fd(), bytes)
	if err := os.WriteFile(filepath.Join(m.dir, "cgroup.event_control"), []byte(line), 0); err != nil {
		return nil, errors.Join(err, notices.Close())
	}
	return &Mark{notices: eventfd{notices}, bytes: bytes}, nil
}

// Arm asks for a notice. Memory that exceeds the mark already may bring none.
func (m *Mark) Arm() error {
	if m.high == "" {
		return nil
	}
	return os.WriteFile(m.high, []byte(strconv.FormatUint(m.bytes, 10)), 0)
}

// Disarm lets processes take memory above the mark at full speed.
func (m *Mark) Disarm() error {
	if m.high == "" {
		return nil
	}
	return os.WriteFile(m.high, []byte("max"), 0)
}

// Wait returns nil after a notice, and os.ErrClosed after Close. There may be notices
// without a cause.
func (m *Mark) Wait() error { return m.notices.Wait() }

// Close ends a Wait that is under way.
func (m *Mark) Close() error { return m.notices.Close() }

// eventfd is a waiter for eventfd(2).
type eventfd struct{ *os.File }

// Wait implements waiter.
func (e eventfd) Wait() error {
	var count [8]byte
	_, err := e.Read(count[:])
	return err
}
