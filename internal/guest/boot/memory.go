package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// maxMemory is the most bytes that Memory holds.
const maxMemory = 1 << 20

// lengthBytes is the size of the length at the start of the file.
const lengthBytes = 8

// Memory holds a few bytes in RAM, under no path, that outlive the agent. Init
// makes it and every agent inherits it.
type Memory struct {
	file *os.File
	view []byte // the file in memory; nil before it is needed
}

// NewMemory returns an empty Memory.
func NewMemory() (*Memory, error) {
	fd, err := unix.MemfdCreate("wrenn-guest", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make memory file: %w", err)
	}
	if err := unix.Ftruncate(fd, lengthBytes+maxMemory); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("size memory file: %w", err)
	}
	return OpenMemory(os.NewFile(uintptr(fd), "memory")), nil
}

// OpenMemory returns the Memory in file, as inherited.
func OpenMemory(file *os.File) *Memory { return &Memory{file: file} }

// open maps the file, once.
func (m *Memory) open() error {
	if m.view != nil {
		return nil
	}
	view, err := unix.Mmap(int(m.file.Fd()), 0, lengthBytes+maxMemory, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map memory file: %w", err)
	}
	m.view = view
	return nil
}

// held returns the saved bytes, which alias the file.
func (m *Memory) held() []byte {
	n := min(binary.NativeEndian.Uint64(m.view), maxMemory)
	return m.view[lengthBytes:][:n]
}

// Load returns a copy of the saved bytes.
func (m *Memory) Load() ([]byte, error) {
	if err := m.open(); err != nil {
		return nil, err
	}
	return append([]byte(nil), m.held()...), nil
}

// Save stores b in place of the saved bytes. It overwrites those first, so that a
// later memory snapshot cannot contain them. If the agent dies meanwhile, nothing
// is saved.
func (m *Memory) Save(b []byte) error {
	if len(b) > maxMemory {
		return errors.New("too much to keep in memory")
	}
	if err := m.open(); err != nil {
		return err
	}
	old := m.held()
	binary.NativeEndian.PutUint64(m.view, 0)
	clear(old)
	copy(m.view[lengthBytes:], b)
	binary.NativeEndian.PutUint64(m.view, uint64(len(b)))
	return nil
}
