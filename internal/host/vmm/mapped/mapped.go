// Package mapped saves and restores VMs whose guest memory is a private mapping
// of a file in the VM process. Drivers of such VMs use it; package host, which
// only knows the contract of package vmm, does not.
//
// A whole snapshot holds the files "memory" and "state". A delta holds "diff",
// the pages that differ from the memory of its base (see package memory), and
// "state". Each driver writes and reads the device state itself.
package mapped

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/memory"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// MemoryFile is the path of guest memory in the whole snapshot dir.
func MemoryFile(dir string) string { return filepath.Join(dir, "memory") }

// StateFile is the path of the device state of from.
func StateFile(from vmm.Image) string {
	if from.Delta != "" {
		return statePath(from.Delta)
	}
	return statePath(from.Base)
}

func statePath(dir string) string { return filepath.Join(dir, "state") }
func diffPath(dir string) string  { return filepath.Join(dir, "diff") }

// Files returns the files of a snapshot.
func Files(form vmm.Form) []vmm.File {
	state := vmm.File{Name: "state", Noun: "device state", Summed: true}
	if form == vmm.Delta {
		return []vmm.File{{Name: "diff", Noun: "memory"}, state}
	}
	return []vmm.File{{Name: "memory", Noun: "memory file", Shared: true}, state}
}

// BootMemory creates the memory file of a VM that boots cold in the directory
// scratch, which is thereby the base of the VM's deltas, and returns its path. A file
// that a failed boot has left is replaced.
func BootMemory(scratch string, bytes int64) (string, error) {
	path := MemoryFile(scratch)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return path, memory.CreateBase(path, bytes)
}

// Fill writes the pages of the delta of from, if it has one, into the mapping of
// the base's memory file in process pid, which must not run. Its path in the
// process is base. On error the process must be ended.
func Fill(ctx context.Context, from vmm.Image, pid int, base string) error {
	if from.Delta == "" {
		return nil
	}
	diff, err := os.Open(diffPath(from.Delta))
	if err != nil {
		return err
	}
	defer diff.Close()
	return damaged(memory.Apply(ctx, diff, pid, base))
}

// CheckDelta reports, as vmm.ErrDamaged, whether the delta in dir is one of a VM
// with that many bytes of memory. Pages are checked when they are loaded.
func CheckDelta(dir string, bytes int64) error {
	diff, err := os.Open(diffPath(dir))
	if err != nil {
		return errors.Join(vmm.ErrDamaged, err)
	}
	defer diff.Close()
	return damaged(memory.CheckDiff(diff, bytes))
}

// Flatten writes the whole snapshot that equals from to the directory dir.
func Flatten(ctx context.Context, from vmm.Image, dir string) error {
	if _, err := disk.Clone(ctx, statePath(dir), StateFile(from)); err != nil {
		return err
	}
	if _, err := disk.Clone(ctx, MemoryFile(dir), MemoryFile(from.Base)); err != nil || from.Delta == "" {
		return err
	}
	diff, err := os.Open(diffPath(from.Delta))
	if err != nil {
		return err
	}
	defer diff.Close()
	whole, err := os.OpenFile(MemoryFile(dir), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(damaged(memory.ApplyToFile(ctx, diff, whole)), whole.Close())
}

func damaged(err error) error {
	if errors.Is(err, memory.ErrDamaged) {
		return fmt.Errorf("%w: %w", vmm.ErrDamaged, err)
	}
	return err
}
