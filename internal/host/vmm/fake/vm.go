package fake

import (
	"context"
	"errors"
	"os"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/mapped"
)

// vm is one agent's hold on a process.
type vm struct{ process *process }

// mappedVM is the hold on a process of the shape Mapped.
type mappedVM struct{ vm }

var _ vmm.DiskCopier = (*mappedVM)(nil)

// checkpointedVM is the hold on a process of the shape Checkpointed.
type checkpointedVM struct{ vm }

var _ vmm.DiskSaver = (*checkpointedVM)(nil)

// BootableBytes implements vmm.DiskSaver. It is a small part of the disk, so that a test
// can exceed it.
func (v *checkpointedVM) BootableBytes() int64 { return int64(v.process.cfg.DiskMB) << 20 / 64 }

// SaveDisk implements vmm.DiskSaver.
func (v *checkpointedVM) SaveDisk(ctx context.Context, path string) error {
	return v.process.call(ctx, func() error { return v.process.saveDisk(path, v.BootableBytes()) })
}

// Ping implements vmm.VM.
func (v *vm) Ping(ctx context.Context) error {
	return v.process.call(ctx, func() error { return nil })
}

// Pause implements vmm.VM.
func (v *vm) Pause(ctx context.Context) error { return v.process.call(ctx, v.process.pause) }

// Resume implements vmm.VM.
func (v *vm) Resume(ctx context.Context) error { return v.process.call(ctx, v.process.resume) }

// mapped describes the VM to package mapped.
func (v *mappedVM) mapped() mapped.Process {
	return mapped.Process{PID: v.process.rec.PID, Base: v.process.rec.MemoryFile, SaveState: func(ctx context.Context, path string) error {
		return v.process.call(ctx, func() error { return v.process.saveState(path) })
	}}
}

// SaveDelta implements vmm.VM.
func (v *vm) SaveDelta(ctx context.Context, dir string) (vmm.SaveStats, error) {
	return checkpointSave{v.process, dir}.Finish(ctx)
}

// BeginSave implements vmm.VM.
func (v *vm) BeginSave(_ context.Context, dir string) (vmm.Save, error) {
	return checkpointSave{v.process, dir}, nil
}

// SaveDelta implements vmm.VM.
func (v *mappedVM) SaveDelta(ctx context.Context, dir string) (vmm.SaveStats, error) {
	return v.mapped().SaveDelta(ctx, dir)
}

// BeginSave implements vmm.VM.
func (v *mappedVM) BeginSave(ctx context.Context, dir string) (vmm.Save, error) {
	return v.mapped().BeginSave(ctx, dir)
}

// BeginDiskCopy implements vmm.VM.
func (v *mappedVM) BeginDiskCopy(ctx context.Context, dst *os.File) error {
	return v.process.call(ctx, func() error { return v.process.beginCopy(dst) })
}

// EndDiskCopy implements vmm.VM.
func (v *mappedVM) EndDiskCopy(ctx context.Context) error {
	return v.process.call(ctx, v.process.endCopy)
}

// AbandonDiskCopy implements vmm.VM.
func (v *mappedVM) AbandonDiskCopy(ctx context.Context) error {
	return v.process.call(ctx, func() error { v.process.abandonCopy(); return nil })
}

// Kill implements vmm.VM.
func (v *vm) Kill(context.Context) error {
	v.process.end(vmm.CauseKilled)
	return nil
}

// Detach implements vmm.VM.
func (v *vm) Detach() {}

// Stalled implements vmm.VM. The disk of a fake VM is never full.
func (v *vm) Stalled() <-chan struct{} { return nil }

// OutOfSpace implements vmm.VM.
func (v *vm) OutOfSpace(ctx context.Context) (bool, error) { return false, v.Ping(ctx) }

// Exited implements vmm.VM.
func (v *vm) Exited() <-chan struct{} { return v.process.exited }

// Exit implements vmm.VM.
func (v *vm) Exit() vmm.Exit { return v.process.exit }

// Record implements vmm.VM.
func (v *vm) Record() vmm.Record { return v.process.rec }

// Console implements vmm.VM.
func (v *vm) Console(context.Context) ([]byte, error) {
	return []byte("wrenn-guest: the fake guest of " + v.process.rec.ID + "\n"), nil
}

// errGone is the error of calls to a VM that has ended.
var errGone = errors.New("the VM process has ended")
