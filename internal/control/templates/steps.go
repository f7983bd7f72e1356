package templates

import (
	"context"
	"crypto/rand"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// guestUser is the user of E2B's sandboxes.
const guestUser = "user"

// carryOut carries out the step at place i of the chain in m.
func (s *stage) carryOut(ctx context.Context, m *machine, i int) error {
	l, before := s.chain[i], s.stateAfter(i)
	b := s.builder
	b.log.add("info", l.step.ID, "%s", l.label())
	var err error
	switch step := l.step; {
	case step.Run != nil:
		err = b.run(ctx, m, step, before)
		m.accounts, m.made = nil, map[string]bool{} // the command may have changed them
	case step.Copy != nil:
		err = b.copyFiles(ctx, m, step, before)
		m.accounts = nil
	case step.Workdir != nil:
		err = b.makeDir(ctx, m, l.state.workdir, before.user)
	case step.User != nil && step.User.Create:
		err = b.createUser(ctx, m, step)
		m.accounts = nil
	}
	return atStep(l.step.ID, l.step.Text, err)
}

// makeDir makes a directory with its parents for a user, unless it exists.
func (b *builder) makeDir(ctx context.Context, m *machine, dir, user string) error {
	if dir == "" || dir == "/" || m.made[dir] {
		return nil
	}
	a, err := b.account(ctx, m, user)
	if err != nil {
		return err
	}
	_, err = b.Machines.CallFile(ctx, m.id, control.FileMakeDir{Path: dir, Parents: true, User: a.name})
	if err == nil {
		m.made[dir] = true
	}
	return err
}

// run carries out RUN.
func (b *builder) run(ctx context.Context, m *machine, step plan.Step, st state) (err error) {
	r := *step.Run
	user := st.user
	if r.User != "" {
		user = r.User
	}
	a, err := b.account(ctx, m, user)
	if err != nil {
		return err
	}
	cwd := b.cwd(st)
	if err := b.makeDir(ctx, m, cwd, "root"); err != nil {
		return err
	}
	env := environment(r.Env, st.env)
	undo := &leftovers{builder: b, machine: m, aside: map[string]string{}}
	defer func() { err = undo.remove(ctx, err) }()
	for i := range r.Binds {
		if err := b.bind(ctx, m, step, i, st, undo); err != nil {
			return err
		}
	}
	if err := b.mounts(ctx, m, step, a, st, env, undo); err != nil {
		return err
	}
	argv := r.Argv
	if r.Script != "" {
		if argv, err = b.script(ctx, m, r.Script, undo); err != nil {
			return err
		}
	}
	runAs := a.name
	if r.Offline {
		argv, runAs = offline(argv, a, env), "root"
	}
	timeout := r.Timeout
	if timeout == 0 {
		timeout = plan.DefaultStepTimeout
	}
	return b.exec(ctx, m, step, control.Exec{Cmd: argv[0], Args: argv[1:], Env: env, Cwd: cwd, User: runAs, Timeout: timeout})
}

// cwd returns the directory of commands; empty is the guest's default.
func (b *builder) cwd(st state) string {
	if st.workdir == "" && b.plan.ImageSettings {
		return "/"
	}
	return st.workdir
}

// environment returns the environment of a command: own, over which env wins.
func environment(own, env []plan.Variable) map[string]string {
	out := map[string]string{}
	for _, v := range own {
		out[v.Name] = v.Value
	}
	for _, v := range env {
		out[v.Name] = v.Value
	}
	return out
}

// offline returns argv in a network namespace that has no network, with the rights of a.
func offline(argv []string, a account, env map[string]string) []string {
	out := []string{"unshare", "--net", "--"}
	if a.uid != 0 {
		out = append(out, "setpriv", fmt.Sprintf("--reuid=%d", a.uid), fmt.Sprintf("--regid=%d", a.gid), "--init-groups", "--")
	}
	if _, given := env["HOME"]; !given {
		env["HOME"], env["USER"], env["LOGNAME"] = a.home, a.name, a.name
	}
	return append(out, argv...)
}

// lines is the output of a command as lines of the log.
type lines struct{ out, err *lineWriter }

func (l lines) Stdout(p []byte) error { _, err := l.out.Write(p); return err }
func (l lines) Stderr(p []byte) error { _, err := l.err.Write(p); return err }

// exec runs the command of a step. A status other than 0 is a failure.
func (b *builder) exec(ctx context.Context, m *machine, step plan.Step, e control.Exec) error {
	sink := lines{b.log.output("info", step.ID), b.log.output("info", step.ID)}
	res, err := b.Machines.Exec(ctx, m.id, e, sink)
	sink.out.flush()
	sink.err.flush()
	last := append(sink.out.last, sink.err.last...)
	switch {
	case fault.ReasonOf(err) == "exec_timeout":
		return failed(step.ID, "%s: the command ran longer than its limit of %s%s", step.Text, e.Timeout, tail(last))
	case err != nil:
		return err
	case res.OutOfMemory:
		return failed(step.ID, "%s: the command was ended because the memory of the build (%d MB) was used up; give the template more memory%s",
			step.Text, m.sizes.MemoryMB, tail(last))
	case res.ExitCode == 0:
		return nil
	case strings.Contains(strings.Join(last, "\n"), "No space left on device"):
		return failed(step.ID, "%s: exit status %d; the disk of the build (%d MB) may be full%s", step.Text, res.ExitCode, m.sizes.DiskMB, tail(last))
	}
	return failed(step.ID, "%s: exit status %d%s", step.Text, res.ExitCode, tail(last))
}

// maxTail bounds the lines of output in a reason, in bytes.
const maxTail = 4 << 10

// tail returns the last lines of output for a reason.
func tail(last []string) string {
	total := 0
	for i := len(last) - 1; i >= 0; i-- {
		if total += len(last[i]) + 1; total > maxTail {
			last = last[i+1:]
			break
		}
	}
	if len(last) == 0 {
		return ""
	}
	return "\n" + strings.Join(last, "\n")
}

// privateDir is the directory of files that exist during a step. It is in memory.
const privateDir = "/run/wrenn-build"

// leftovers are the files of a step that are removed after it.
type leftovers struct {
	builder *builder
	machine *machine
	paths   []string
	// aside are the places of files that have to come back, by their paths.
	aside map[string]string
}

// remove removes the files, the newest first, and returns err or the error of the
// removal: a layer must not hold a secret.
func (u *leftovers) remove(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err // the build has ended here, and the machine is destroyed without a layer
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), scriptTimeout)
	defer cancel()
	for i := len(u.paths) - 1; i >= 0; i-- {
		_, removeErr := u.builder.Machines.CallFile(ctx, u.machine.id, control.FileRemove{Path: u.paths[i], Recursive: true})
		if removeErr != nil && !fault.Is(removeErr, fault.NotFound) && err == nil {
			err = removeErr
		}
		if from := u.aside[u.paths[i]]; from != "" {
			_, moveErr := u.builder.Machines.CallFile(ctx, u.machine.id, control.FileMove{From: from, To: u.paths[i], User: "root"})
			if moveErr != nil && err == nil {
				err = moveErr
			}
		}
	}
	return err
}

// bind puts the files of the mount at place i of a step where they are during the step. The
// commands can write to them, and lose the changes, as with Docker's option rw.
func (b *builder) bind(ctx context.Context, m *machine, step plan.Step, i int, st state, undo *leftovers) error {
	c := step.Run.Binds[i]
	c.Dest = st.join(c.Dest)
	if system(c.Dest) || slices.Contains(undo.paths, c.Dest) {
		return failed(step.ID, "%s: nothing can be mounted at %.256s, or only once", step.Text, c.Dest)
	}
	src, err := b.source(ctx, &c)
	if err != nil {
		return err
	}
	_, err = b.Machines.CallFile(ctx, m.id, control.FileStat{Path: c.Dest})
	switch {
	case err == nil:
		// In the same directory, and thus in the same file system.
		aside := path.Join(path.Dir(c.Dest), fmt.Sprintf(".wrenn-aside-%d-%s", i, rand.Text()))
		if _, err := b.Machines.CallFile(ctx, m.id, control.FileMove{From: c.Dest, To: aside, User: "root"}); err != nil {
			return err
		}
		undo.aside[c.Dest] = aside
	case !fault.Is(err, fault.NotFound):
		return err
	}
	undo.paths = append(undo.paths, c.Dest)
	if !src.single {
		if _, err := b.Machines.CallFile(ctx, m.id, control.FileMakeDir{Path: c.Dest, Parents: true, User: "root"}); err != nil {
			return err
		}
	}
	return b.writeFiles(ctx, m, &c, st, src)
}

// system reports whether a path is one of the guest's own, or the root.
func system(p string) bool {
	for _, dir := range []string{"/proc", "/sys", "/dev", privateDir} {
		if p == dir || strings.HasPrefix(p, dir+"/") {
			return true
		}
	}
	return p == "/" || p == "/run"
}

// script writes a script, and returns the command that runs it.
func (b *builder) script(ctx context.Context, m *machine, text string, undo *leftovers) ([]string, error) {
	name := path.Join(privateDir, "script")
	mode := uint32(0o755)
	undo.paths = append(undo.paths, name)
	_, err := b.Machines.WriteFile(ctx, m.id, control.WriteFile{Path: name, User: "root", Mode: &mode}, strings.NewReader(text))
	return []string{name}, err
}

// mounts prepares the secrets and the temporary directories of a step.
func (b *builder) mounts(ctx context.Context, m *machine, step plan.Step, a account, st state, env map[string]string, undo *leftovers) error {
	for _, dir := range step.Run.Scratch {
		if err := b.scratch(ctx, m, st.join(dir), a, undo); err != nil {
			return err
		}
	}
	for i, s := range step.Run.Secrets {
		value, given := b.inputs.Secrets[s.ID]
		if !given {
			if s.Required {
				return failed(step.ID, "%s: the secret %s was not given", step.Text, s.ID)
			}
			continue
		}
		if s.Variable != "" {
			if strings.ContainsRune(string(value), 0) {
				return failed(step.ID, "%s: the secret %s holds a NUL character and cannot be a variable", step.Text, s.ID)
			}
			env[s.Variable] = string(value)
		}
		if s.Path != "" {
			if err := b.secretFile(ctx, m, i, s, st.join(s.Path), a, value, undo); err != nil {
				return err
			}
		}
	}
	return nil
}

// scratch makes a directory that exists during the step, unless it exists already.
func (b *builder) scratch(ctx context.Context, m *machine, dir string, a account, undo *leftovers) error {
	if _, err := b.stat(ctx, m, dir); err == nil || !fault.Is(err, fault.NotFound) {
		return err
	}
	undo.paths = append(undo.paths, dir)
	_, err := b.Machines.CallFile(ctx, m.id, control.FileMakeDir{Path: dir, Parents: true, User: a.name})
	return err
}

// inMemory reports whether a path lies in a file system in the guest's memory.
func inMemory(p string) bool {
	return strings.HasPrefix(p, "/run/") || strings.HasPrefix(p, "/dev/shm/")
}

// secretFile writes a secret to a file in memory, with a link to it at p if that is
// elsewhere, so that it never reaches the disk.
func (b *builder) secretFile(ctx context.Context, m *machine, i int, s plan.Secret, p string, a account, value []byte, undo *leftovers) error {
	mode := s.Mode
	if mode == 0 {
		mode = 0o400
	}
	if _, err := b.stat(ctx, m, p); err == nil {
		return fault.New(fault.Exists, "exists", "the file %s of the secret %s exists already", p, s.ID)
	} else if !fault.Is(err, fault.NotFound) {
		return err
	}
	undo.paths = append(undo.paths, p)
	file := p
	if !inMemory(p) {
		file = fmt.Sprintf("%s/secret-%d", privateDir, i)
		undo.paths = append(undo.paths, file)
		if err := b.writeLink(ctx, m, p, file); err != nil {
			return err
		}
	}
	_, err := b.Machines.WriteFile(ctx, m.id, control.WriteFile{Path: file, User: a.name, Mode: &mode}, strings.NewReader(string(value)))
	return err
}

// stat returns the entry of a path, with links followed.
func (b *builder) stat(ctx context.Context, m *machine, p string) (control.FileEntry, error) {
	page, err := b.Machines.CallFile(ctx, m.id, control.FileStat{Path: p, Follow: true})
	if err != nil {
		return control.FileEntry{}, err
	}
	if len(page.Entries) != 1 {
		return control.FileEntry{}, fault.New(fault.HostFailed, "guest_failed", "the guest described %d files instead of one", len(page.Entries))
	}
	return page.Entries[0], nil
}
