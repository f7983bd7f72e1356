package templates

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/build/dockerfile"
	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

const (
	// scriptTimeout bounds the scripts of the build itself.
	scriptTimeout = 2 * time.Minute
	// readyTimeout bounds the wait for the ready command, and readyRun one run of it.
	readyTimeout = 10 * time.Minute
	readyRun     = time.Minute
	// startJournal is the output of the start command that its failure can show, in bytes.
	startJournal = 64 << 10
)

// readyInterval is the time between two runs of the ready command, and readyWait the
// wait for a start command without one.
var (
	readyInterval = 2 * time.Second
	readyWait     = 20 * time.Second
)

// finalize is the script at the end of E2B's builds: the user exists, and there are the
// directories that their programs expect.
const finalize = ensureUser + allowSudo + `
mkdir -p /usr/local /code
chmod 0777 /usr/local /code
`

// finish completes the last stage, takes the snapshot and ends the build.
func (b *builder) finish(ctx context.Context, s *stage, m *machine) error {
	st := s.state()
	step := plan.Step{ID: finalStep, Text: "finalize"}
	b.log.add("info", finalStep, "[finalize] completing the template")
	if b.plan.GuestUser {
		err := b.exec(ctx, m, step, control.Exec{Cmd: "/bin/sh", Args: []string{"-c", finalize, "sh", guestUser}, Cwd: "/", User: "root", Timeout: scriptTimeout})
		m.accounts = nil
		if err != nil {
			return err
		}
	}
	user := ""
	if st.user != "" {
		a, err := b.account(ctx, m, st.user)
		if err != nil {
			return atStep(finalStep, "USER "+st.user, err)
		}
		user = a.name
	}
	if err := atStep(finalStep, "WORKDIR "+st.workdir, b.makeDir(ctx, m, st.workdir, st.user)); err != nil {
		return err
	}
	if err := b.start(ctx, m, s, st, user); err != nil {
		return err
	}
	b.log.add("info", finalStep, "[finalize] taking the snapshot")
	snap, err := b.Machines.KeepSnapshot(ctx, m.id, control.KeptSnapshot{
		Kind: control.KindTemplate, TemplateID: string(b.build.Template), TemplateName: b.template, User: user, Workdir: st.workdir,
	})
	if err != nil {
		return err
	}
	done := b.build
	done.Status, done.Snapshot, done.HostID, done.User, done.Workdir, done.Step, done.Steps = Ready, snap.ID, snap.HostID, user, st.workdir, b.steps, b.steps
	done.Env = environment(nil, st.env)
	if snap.Spec.VCPUs > 0 {
		done.VCPUs, done.MemoryMB, done.DiskMB = snap.Spec.VCPUs, snap.Spec.MemoryMB, snap.Spec.DiskMB
	}
	if asked := (sizes{b.build.VCPUs, b.build.MemoryMB, b.build.DiskMB}); asked != (sizes{done.VCPUs, done.MemoryMB, done.DiskMB}) {
		b.log.add("warn", finalStep, "the base has %d vCPUs, %d MB memory and %d MB disk, and so has the template", done.VCPUs, done.MemoryMB, done.DiskMB)
	}
	b.log.add("info", finalStep, "[finalize] the template is ready")
	b.log.sync()
	return b.commit(context.WithoutCancel(ctx), done)
}

// commitAttempts is how often the end of a build is written if the store does not answer.
const commitAttempts = 4

// commit writes the end of a build that is ready. It drops the snapshot only if the store says
// that the build ended otherwise: after a lost answer the template may have it.
func (b *builder) commit(ctx context.Context, done Build) error {
	for n := 1; ; n++ {
		won, err := b.Store.FinishBuild(ctx, done, b.Server)
		if err == nil && won {
			return nil
		}
		if err == nil {
			var row Build
			if row, err = b.Store.GetBuild(ctx, b.job.id); err == nil && row.Status == Ready && row.Snapshot == done.Snapshot {
				return nil
			}
			if err == nil || fault.Is(err, fault.NotFound) {
				b.drop(ctx, done.Snapshot)
				return nil
			}
		}
		if n == commitAttempts {
			return err
		}
		if err := wait(ctx, time.Duration(n)*retryDelay, nil); err != nil {
			return err
		}
	}
}

// start starts the start command and waits until the template is ready.
func (b *builder) start(ctx context.Context, m *machine, s *stage, st state, user string) error {
	command, own := b.startCommand(s)
	ready := b.plan.Ready
	if command == "" && ready == "" {
		return nil
	}
	run := control.Exec{Env: environment(nil, st.env), Cwd: b.cwd(st), User: orText(user, b.defaultUser())}
	again := control.StartAgain{Timeout: readyTimeout}
	isReady := run
	if ready != "" {
		isReady.Cmd, isReady.Args = b.shell(ctx, m, ready)
		again.Ready = append([]string{isReady.Cmd}, isReady.Args...)
	}
	started := control.ProcessID("")
	if command != "" {
		b.log.add("info", finalStep, "[finalize] starting %s", command)
		e := run
		e.Cmd, e.Args = b.shell(ctx, m, command)
		started = control.NewProcessID()
		_, err := b.Machines.CallProcess(ctx, m.id, control.ProcessStart{ID: started, Command: e, JournalBytes: startJournal, Again: &again})
		if err != nil {
			if !own {
				b.log.add("warn", finalStep, "[finalize] the start command of the base image cannot be started: %s", fault.As(err).Public)
				return nil
			}
			return atStep(finalStep, "the start command", err)
		}
	}
	if ready == "" {
		return b.awaitStart(ctx, m, started, own)
	}
	return b.awaitReady(ctx, m, started, own, isReady)
}

// startCommand returns the start command, and whether it is the author's: the command of an
// image may fail.
func (b *builder) startCommand(s *stage) (command string, own bool) {
	switch image := slices.Concat(s.base.entrypoint, s.base.cmd); {
	case len(b.plan.Arguments) > 0 && len(s.base.entrypoint) > 0:
		return "exec " + dockerfile.Quote(slices.Concat(s.base.entrypoint, b.plan.Arguments)), true
	case b.plan.Start == "" && b.plan.ImageSettings && len(image) > 0:
		return "exec " + dockerfile.Quote(image), false
	}
	return b.plan.Start, true
}

// defaultUser is the user of commands if nothing has set one; empty is the guest's.
func (b *builder) defaultUser() string {
	if b.plan.GuestUser {
		return guestUser
	}
	return "root"
}

// shell returns the command that runs text: a login shell in E2B's builds. Where there
// is no shell, a command without anything for it is run as it is.
func (b *builder) shell(ctx context.Context, m *machine, text string) (string, []string) {
	if b.plan.GuestUser {
		return "/bin/bash", []string{"-l", "-c", text}
	}
	if _, err := b.stat(ctx, m, "/bin/sh"); fault.Is(err, fault.NotFound) {
		if words := dockerfile.Unquote(text); len(words) > 0 {
			return words[0], words[1:]
		}
	}
	return "/bin/sh", []string{"-c", text}
}

// awaitStart gives a start command without a ready command its time. A command that has
// ended well needs none.
func (b *builder) awaitStart(ctx context.Context, m *machine, id control.ProcessID, own bool) error {
	ps, err := b.Machines.CallProcess(ctx, m.id, control.ProcessGet{ID: id, Wait: readyWait})
	if err != nil {
		return err
	}
	for _, p := range ps {
		if p.Exit != nil {
			return b.startEnded(ctx, m, p, own)
		}
	}
	return nil
}

// startEnded judges a start command that has ended.
func (b *builder) startEnded(ctx context.Context, m *machine, p control.Process, own bool) error {
	if p.Exit.Code == 0 {
		b.log.add("info", finalStep, "[finalize] the start command has ended with status 0")
		return nil
	}
	sink := &journalLines{lines{b.log.output("info", finalStep), b.log.output("info", finalStep)}}
	_, err := b.Machines.AttachProcess(ctx, m.id, control.ProcessAttach{ID: p.ID}, sink)
	sink.lines.out.flush()
	if err != nil && ctx.Err() != nil {
		return err
	}
	if !own {
		b.log.add("warn", finalStep, "[finalize] the start command of the base image has ended with status %d", p.Exit.Code)
		return nil
	}
	return failed(finalStep, "the start command: exit status %d%s", p.Exit.Code, tail(sink.lines.out.last))
}

// journalLines is the output of a process as lines of the log.
type journalLines struct{ lines lines }

// Attached implements control.ProcessSink.
func (*journalLines) Attached(control.Process) error { return nil }

// Output implements control.ProcessSink.
func (j *journalLines) Output(_ string, _ int64, data []byte) error { return j.lines.Stdout(data) }

// Truncated implements control.ProcessSink.
func (*journalLines) Truncated(int64, int64) error { return nil }

// awaitReady repeats the ready command until it succeeds.
func (b *builder) awaitReady(ctx context.Context, m *machine, started control.ProcessID, own bool, e control.Exec) error {
	deadline := time.Now().Add(readyTimeout)
	b.log.add("info", finalStep, "[finalize] waiting for the ready command (at most %s)", readyTimeout)
	for {
		// The last run ends at the deadline too.
		e.Timeout = min(readyRun, max(time.Until(deadline), time.Second))
		sink := lines{b.log.output("debug", finalStep), b.log.output("debug", finalStep)}
		res, err := b.Machines.Exec(ctx, m.id, e, sink)
		sink.out.flush()
		sink.err.flush()
		if err == nil && res.ExitCode == 0 {
			return b.checkStart(ctx, m, started, own)
		}
		if err != nil && fault.ReasonOf(err) != "exec_timeout" {
			return atStep(finalStep, "the ready command", err)
		}
		if err := b.checkStart(ctx, m, started, own); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			last := slices.Concat(sink.out.last, sink.err.last)
			return failed(finalStep, "the ready command did not succeed within %s; its last exit status is %d%s", readyTimeout, res.ExitCode, tail(last))
		}
		if err := wait(ctx, readyInterval, nil); err != nil {
			return err
		}
	}
}

// checkStart fails if the start command has failed.
func (b *builder) checkStart(ctx context.Context, m *machine, started control.ProcessID, own bool) error {
	if started == "" {
		return nil
	}
	ps, err := b.Machines.CallProcess(ctx, m.id, control.ProcessGet{ID: started})
	if err != nil {
		return err
	}
	for _, p := range ps {
		if p.Exit != nil && p.Exit.Code != 0 {
			return b.startEnded(ctx, m, p, own)
		}
	}
	return nil
}

// variableOf splits "NAME=VALUE".
func variableOf(text string) (plan.Variable, bool) {
	name, value, ok := strings.Cut(text, "=")
	return plan.Variable{Name: name, Value: value}, ok && name != "" && !strings.ContainsRune(text, 0)
}
