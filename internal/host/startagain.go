package host

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// A boot from a disk ends the processes of a sandbox, among them that of the start command
// of its template. The host starts that one again, as the restart of a machine does. The
// start command of a template image is a part of the image. That of a template which a
// build has made is in the journal of the build's sandbox, and goes from there into its
// snapshots, and into the journals of the sandboxes that are made from them. After a boot
// whose VM ended while they started, the next boot leaves them out; that of a create follows
// at once.

const (
	// startAgainBegin bounds the start of the process of a start command after a boot, and
	// startAgainWait the wait of the resume until the command is ready. Two start commands
	// are started and awaited at the same time.
	startAgainBegin = 10 * time.Second
	startAgainWait  = 20 * time.Second
	// startAgainEnd is how long the resume waits for a failure of a start command that has
	// no ready command.
	startAgainEnd = time.Second
	// These are the names in the restore report of the time that the start command took:
	// until it was ready, until the wait for that was given up, or until it failed.
	stepStart         = "start_command"
	stepStartNotReady = "start_command_not_ready"
	stepStartFailed   = "start_command_failed"
)

// StartAgain records the start command of a template, which has been started in the sandbox
// of ref. Each boot of the sandbox from a disk runs it again, and so does each boot of a
// sandbox that is made from a later snapshot of it. It replaces an earlier one.
func (m *Manager) StartAgain(ctx context.Context, ref sandbox.Ref, start sandbox.StartCommand) error {
	if err := start.Validate(); err != nil {
		return err
	}
	mc, err := m.find(ref.ID)
	if err != nil {
		return err
	}
	return mc.ask(ctx, request{op: journal.OpStart, ref: ref, start: &start})
}

// keepStart writes the start command to the journal.
func (m *machine) keepStart(start *sandbox.StartCommand) error {
	if m.rec.State != sandbox.Running {
		return fault.New(fault.WrongState, reasonNotRunning, "sandbox %s is %s, not running", m.rec.ID, m.rec.State.Status())
	}
	before := m.rec.Start
	m.rec.Start = start
	err := m.save()
	if err != nil {
		m.rec.Start = before
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.view.startID = startIDOf(start)
	return nil
}

// startAgain runs the start commands of the sandbox's template after a boot, as far as the
// host knows them, and waits a while until they are ready. The sandbox runs without them as
// well, so that a failure of theirs is only written to the log and the restore report. The
// error is that of a VM that has ended, or of a resume that was cut off.
func (b *body) startAgain(ctx context.Context) error {
	starts := b.startCommands()
	if len(starts) == 0 {
		return nil
	}
	begun := time.Now()
	if b.rec.SkipStart {
		b.log.WarnContext(ctx, "the start commands of the template are left out, because the last boot ended while they started")
		b.reportStart(stepStartFailed, begun)
		return nil
	}
	ctx, stop := b.UntilExit(ctx)
	defer stop()
	ends := make([]error, len(starts))
	var running sync.WaitGroup
	for i, start := range starts {
		s := templateStart{StartCommand: start, template: b.rec.Spec.Template, guest: b.Guest()}
		running.Go(func() { ends[i] = fault.Caught(func() error { return s.again(ctx) }) })
	}
	running.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	name := stepStart
	for i, err := range ends {
		var failed startFailed
		switch {
		case err == nil:
			continue
		case errors.As(err, &failed):
			name = stepStartFailed
		case name == stepStart:
			name = stepStartNotReady
		}
		b.log.WarnContext(ctx, "a start command of the template failed after a boot, or is not ready yet", "process", starts[i].ID, "error", err)
	}
	b.reportStart(name, begun)
	return nil
}

// reportStart writes the time since begun to the restore report, as that of the step name.
func (b *body) reportStart(name string, begun time.Time) {
	if b.rec.RestoreReport != nil {
		b.rec.RestoreReport.Steps[name] = time.Since(begun)
	}
}

// skipStart returns the error of a resume whose start commands were cut off by cause. If
// the VM has ended, the next boot leaves them out: one of them may have ended it, and would
// end each later boot as well. ctx is the context of the resume.
func (b *body) skipStart(ctx context.Context, cause error) error {
	if ctx.Err() != nil {
		return cause
	}
	b.rec.SkipStart = true
	return fault.Wrap(cause, fault.HostFailed, "resume_failed",
		"the VM of sandbox %s ended while the start command of its template started; the sandbox is still paused: try again, and the resume leaves the start command out", b.rec.ID)
}

// startFailed is the error of a start command that could not be started, or that ended
// before it was ready.
type startFailed struct{ error }

// again starts the command after a boot and waits until it is ready, each within its own
// time. An error other than startFailed says that it is not known to be ready.
func (s templateStart) again(ctx context.Context) error {
	begin, cancel := context.WithTimeout(ctx, startAgainBegin)
	err := s.begin(begin)
	cancel()
	if err != nil {
		return startFailed{err}
	}
	wait, cancel := context.WithTimeout(ctx, startAgainWait)
	defer cancel()
	if len(s.Ready) == 0 {
		err = s.awaitEnd(wait, startAgainEnd)
	} else {
		err = s.awaitReady(wait)
	}
	if errors.Is(err, errStartEnded) {
		return startFailed{err}
	}
	return err
}

// startCommands returns the start command of the template image, and the one that a build
// has started in addition.
func (b *body) startCommands() (out []sandbox.StartCommand) {
	img, err := b.mgr.template(b.rec.Spec.Template)
	if err == nil && img.Digest == b.rec.TemplateDigest && img.Start.Command != "" {
		out = append(out, startCommandOf(img.Start))
	}
	if b.rec.Start != nil {
		out = append(out, *b.rec.Start)
	}
	return out
}
