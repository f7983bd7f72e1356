package host

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/host/instance"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/host/snapshot"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// body is an instance with its record and its base: the part of a sandbox that a
// warm clone and a template build have as well. It has no mailbox, gate or state
// that callers see, so that its instance can be moved into a sandbox whole.
//
// One goroutine at a time uses it.
type body struct {
	mgr *Manager
	log *slog.Logger
	*instance.Instance
	rec   journal.Record
	times map[string]time.Duration
	// stage is the part of the steps that callers see.
	stage *stage
	// captured holds the page counts of the last snapshot.
	captured vmm.SaveStats
	// baseToken is the access token of a guest that was not sealed when the
	// base was made.
	baseToken string
	// fromForced: the base was taken without its guest's help.
	fromForced bool
	// templateStart is that of the template whose snapshot is being restored.
	templateStart image.Start
	// ran: the virtual CPUs have run since the resume under way began.
	ran bool
	// unrecorded: the VM process was found, and the record did not name it.
	unrecorded bool
	// unsaved: the journal on disk is older than rec, see conclude.
	unsaved bool
	// heldBase is the base that the body keeps from being removed.
	heldBase snapshot.Dir
}

// newBody returns a body of which nothing exists yet but, perhaps, the record.
func newBody(mgr *Manager, dir instance.Dir, rec journal.Record) body {
	return body{
		mgr: mgr, log: mgr.log.With("sandbox", string(rec.ID)), rec: rec,
		Instance: mgr.newInstance(string(rec.ID), dir, rec.Spec), times: make(map[string]time.Duration),
		stage: new(stage),
	}
}

// newInstance returns an instance for spec of which nothing exists yet.
func (m *Manager) newInstance(name string, dir instance.Dir, spec sandbox.Spec) *instance.Instance {
	parts := instance.Parts{Driver: m.driverOf(spec), Network: m.deps.Network, Cgroups: m.deps.Cgroups, UIDBase: m.cfg.UIDBase}
	return instance.New(parts, name, dir, instance.Size{VCPUs: spec.VCPUs, MemoryMB: spec.MemoryMB, DiskMB: spec.DiskMB})
}

// pauseDir is the directory of the pause called name.
func (b *body) pauseDir(name string) snapshot.Dir { return snapshot.Dir(b.Dir.Pause(name)) }

// step writes name to the journal, calls do, and records how long do took.
func (b *body) step(ctx context.Context, name string, do func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	b.rec.Step = name
	b.stage.set(name)
	if err := b.save(); err != nil {
		if !journal.MayRunUnjournaled(name) {
			return err
		}
		b.unsaved = true
		b.log.WarnContext(ctx, "going on without a journal", "step", name, "error", err)
	}
	start := time.Now()
	err := b.caught(ctx, func() error {
		if b.mgr.cfg.OnStep != nil {
			if err := b.mgr.cfg.OnStep(name); err != nil {
				return err
			}
		}
		return do(ctx)
	})
	b.times[name] = time.Since(start)
	return err
}

// caught calls do. It logs a panic in do and returns it as an error like any
// other, which the operation undoes.
func (b *body) caught(ctx context.Context, do func() error) error {
	err := fault.Caught(do)
	if fault.ReasonOf(err) != reasonPanic {
		return err
	}
	b.log.ErrorContext(ctx, "an operation panicked and is undone", "op", b.rec.Op, "step", b.rec.Step, "error", err)
	return fault.Wrap(errors.New(fault.As(err).Error()), fault.Internal, "internal", "%s", fault.As(err).Public)
}

// begin starts an operation. Its name is journaled with its first step.
func (b *body) begin(op string) {
	b.rec.Op, b.rec.Step = op, ""
	clear(b.times)
}

// commitState ends the operation in state and writes that to the journal.
func (b *body) commitState(state sandbox.State) error {
	b.rec.Op, b.rec.Step, b.rec.State = "", "", state
	if state == sandbox.Running {
		b.rec.DiskOnly = false // also after a restore in place of a boot
		b.rec.SkipStart = false
	}
	return b.saveCommitted()
}

// saveCommitted writes the record of a committed state. The record of a pause is
// written to the disk unless it is there: an earlier version wrote it, or the resume
// that removed it has failed.
func (b *body) saveCommitted() error {
	if b.rec.State == sandbox.Paused && !journal.KeepsPause(string(b.Dir)) {
		return b.savePause()
	}
	return b.save()
}

// save writes the record for the next agent.
func (b *body) save() error { return journalFault(b.rec.Write(string(b.Dir))) }

// savePause writes the record of a paused sandbox, which outlives a crash of the host.
func (b *body) savePause() error { return journalFault(b.rec.WritePause(string(b.Dir))) }

func journalFault(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fault.Wrap(err, fault.NoCapacity, "journal_failed", "the host's disk is full and it cannot write its journal; free some space on it")
	default:
		return fault.Wrap(err, fault.HostFailed, "journal_failed", "the host cannot write its journal")
	}
}
