package host

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// A full disk of the host loses no running sandbox. A guest's VM stops at the
// write that found no space, until there is some. Records that could not be
// written are written later.
//
//	guest writes ── no space ──► stalled ──┐ every fullRetry: space?
//	     ▲                                 │
//	     └───────── resume the VM ◄────────┘

const (
	// fullRetry is the interval at which a sandbox checks for free space.
	fullRetry = time.Second
	// fullRoom is the free space, in bytes, at which stopped guests continue. It is
	// more than the ballast, so that they do not use up the ballast.
	fullRoom = 256 << 20
	// reasonDiskFull is the reason of faults because of a full disk. It is part of
	// the API.
	reasonDiskFull = "disk_full"
)

// stalled receives when the guest has stopped at a full disk. It is nil, which
// blocks, while there is no VM.
func (m *machine) stalled() <-chan struct{} {
	if m.VM == nil {
		return nil
	}
	return m.VM.Stalled()
}

// stallCheck is how long a VMM may take to confirm that its guest is stopped.
const stallCheck = 2 * time.Second

// stall records that the guest is stopped, if the VMM confirms it or does not
// answer. A hint may be older than the last resume.
func (m *machine) stall(ctx context.Context) {
	if m.VM == nil || m.rec.State != sandbox.Running {
		return
	}
	check, cancel := context.WithTimeout(ctx, stallCheck)
	defer cancel()
	if full, err := m.VM.OutOfSpace(check); err == nil && !full {
		return
	}
	if !m.diskFull {
		m.log.WarnContext(ctx, "the host's disk is full; the VM is stopped until there is space")
	}
	m.setDiskFull(true)
}

func (m *machine) setDiskFull(full bool) {
	if m.diskFull == full {
		return
	}
	m.mu.Lock()
	m.diskFull = full
	if !m.health.renewDue { // silence counts from the end of the stop
		m.health.since = time.Time{}
	}
	m.mu.Unlock()
	m.publish(m.rec.State)
}

// retryFull returns a channel that fires when a sandbox that waits for space
// should check again. The channel is nil for a sandbox that does not wait.
func (m *machine) retryFull() (<-chan time.Time, func()) {
	if !m.diskFull && !m.unsaved {
		return nil, func() {}
	}
	timer := time.NewTimer(fullRetry)
	return timer.C, func() { timer.Stop() }
}

// tryAgain writes the record that the journal lacks, and resumes a stopped guest
// if there is space.
func (m *machine) tryAgain(ctx context.Context) {
	if m.unsaved {
		m.saveLater(ctx)
	}
	if m.diskFull {
		m.unstall(ctx)
	}
}

// unstall resumes a stopped guest if there is free space. The guest stalls again
// if that was not enough.
func (m *machine) unstall(ctx context.Context) {
	if m.VM == nil || m.rec.State != sandbox.Running {
		m.setDiskFull(false)
		return
	}
	if _, free, err := disk.Space(m.mgr.cfg.Dir); err != nil || free < fullRoom {
		return
	}
	if err := m.VM.Resume(ctx); err != nil {
		m.log.WarnContext(ctx, "a sandbox that waited for disk space cannot continue, will try again", "error", err)
		return
	}
	if full, err := m.VM.OutOfSpace(ctx); err == nil && full {
		return // that was not enough, or the VM's disk is in memory, and that is short
	}
	m.log.InfoContext(ctx, "there is disk space again; the VM continues")
	m.setDiskFull(false)
}

// errDiskFull refuses an operation that needs a guest which a full disk has stopped.
func errDiskFull() error {
	return fault.New(fault.NoCapacity, reasonDiskFull,
		"the host has no space for the sandbox's disk and the sandbox is stopped; it continues by itself when there is space: free disk space on the host, or memory if the sandbox's disk is in memory, or destroy sandboxes or snapshots")
}

// conclude ends the operation in state, even if the journal cannot be written,
// because callers have to learn the real state. Use it only if an agent that reads
// the old record brings the sandbox into the same state.
func (b *body) conclude(ctx context.Context, state sandbox.State) {
	if err := b.commitState(state); err != nil {
		b.log.ErrorContext(ctx, "the journal cannot be written, will try again", "state", state, "error", err)
		b.unsaved = true
	}
}

// saveLater writes the record that conclude could not write.
func (b *body) saveLater(ctx context.Context) {
	if err := b.saveCommitted(); err != nil {
		return
	}
	b.unsaved = false
	b.log.InfoContext(ctx, "the journal is written again")
	if b.rec.State == sandbox.Paused {
		b.dropNextDisk(ctx)
	}
}

// dropNextDisk removes the disk that a failed resume began with.
func (b *body) dropNextDisk(ctx context.Context) {
	if err := removeFile(b.Dir.NextDisk()); err != nil {
		b.log.ErrorContext(ctx, "could not remove the disk of a failed resume", "error", err)
	}
}

// removeFile removes a file that may be missing.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
