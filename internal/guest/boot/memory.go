package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// maxMemory bounds what Memory holds.
const maxMemory = 1 << 20

// lengthBytes is how much of the file says how long what follows is.
const lengthBytes = 8

// Memory is a few bytes in RAM that outlive the agent and have no path. Init
// makes it and hands it to each agent in turn.
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

// held returns what is held now.
func (m *Memory) held() []byte {
	n := min(binary.NativeEndian.Uint64(m.view), maxMemory)
	return m.view[lengthBytes:][:n]
}

// Load returns what was saved last.
func (m *Memory) Load() ([]byte, error) {
	if err := m.open(); err != nil {
		return nil, err
	}
	return append([]byte(nil), m.held()...), nil
}

// Save replaces what is held. Old bytes are overwritten, so that no snapshot of
// the machine holds them. An agent that dies on the way leaves nothing.
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
