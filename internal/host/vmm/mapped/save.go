package mapped

import (
	"context"
	"errors"
	"os"

	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/memory"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// Process is a VM process whose guest memory is a private mapping of a file.
type Process struct {
	PID int
	// Base is the path of the mapped file.
	Base string
	// SaveState writes the device state of the paused VM to path, a new file.
	SaveState func(ctx context.Context, path string) error
}

// SaveDelta writes the delta of the paused VM to the directory dir.
func (p Process) SaveDelta(ctx context.Context, dir string) (vmm.SaveStats, error) {
	if err := p.SaveState(ctx, statePath(dir)); err != nil {
		return vmm.SaveStats{}, err
	}
	f, err := os.OpenFile(diffPath(dir), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return vmm.SaveStats{}, err
	}
	stats, err := memory.WriteDiff(ctx, p.PID, p.Base, f)
	return statsOf(stats), errors.Join(err, f.Close())
}

// BeginSave begins to save the VM whole to the directory dir, with a copy of the
// mapped file.
func (p Process) BeginSave(ctx context.Context, dir string) (vmm.Save, error) {
	if _, err := disk.Clone(ctx, MemoryFile(dir), p.Base); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(MemoryFile(dir), os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return &save{process: p, dir: dir, memory: f, whole: memory.NewWhole(p.PID, p.Base, f)}, nil
}

type save struct {
	process Process
	dir     string
	memory  *os.File
	whole   *memory.Whole
}

// Ahead implements vmm.Save.
func (s *save) Ahead(ctx context.Context) error { return s.whole.Begin(ctx) }

// Finish implements vmm.Save.
func (s *save) Finish(ctx context.Context) (vmm.SaveStats, error) {
	if err := s.process.SaveState(ctx, statePath(s.dir)); err != nil {
		return vmm.SaveStats{}, err
	}
	stats, err := s.whole.Finish(ctx)
	return statsOf(stats), err
}

// Close implements vmm.Save.
func (s *save) Close() error { return s.memory.Close() }

func statsOf(s memory.Stats) vmm.SaveStats { return vmm.SaveStats{Dirty: s.Dirty, Kept: s.Kept} }
