package boot

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxMemory bounds what Memory holds.
const maxMemory = 1 << 20

// Memory is a few bytes in RAM that outlive the agent and have no path. Init
// makes it and hands it to each agent in turn.
type Memory struct{ file *os.File }

// NewMemory returns an empty Memory.
func NewMemory() (*Memory, error) {
	fd, err := unix.MemfdCreate("wrenn-guest", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make memory file: %w", err)
	}
	return &Memory{os.NewFile(uintptr(fd), "memory")}, nil
}

// OpenMemory returns the Memory in file, as inherited.
func OpenMemory(file *os.File) *Memory { return &Memory{file} }

// Load returns what was saved last.
func (m *Memory) Load() ([]byte, error) {
	return io.ReadAll(io.NewSectionReader(m.file, 0, maxMemory))
}

// Save replaces what is held. Old bytes are overwritten before their pages are
// given back, so that no snapshot of the machine holds them there.
func (m *Memory) Save(b []byte) error {
	if len(b) > maxMemory {
		return errors.New("too much to keep in memory")
	}
	fi, err := m.file.Stat()
	if err != nil {
		return err
	}
	if _, err := m.file.WriteAt(make([]byte, fi.Size()), 0); err != nil {
		return err
	}
	if err := m.file.Truncate(0); err != nil {
		return err
	}
	_, err = m.file.WriteAt(b, 0)
	return err
}
