package dockerfile

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
)

// stage is one stage while its instructions are read.
type stage struct {
	reader *reader
	// closed: the environment of the base is known, because it is empty.
	closed bool
	// env are the variables that the text has set, and hidden those whose values are
	// known only when the build has reached them.
	env    []plan.Variable
	hidden map[string]bool
	args   []plan.Variable
	shell  []string

	entrypoint, cmd *instructions.ShellDependantCmdLine
	ready           string
	steps           []plan.Step
}

func newStage(r *reader, n int) *stage {
	return &stage{reader: r, closed: r.bases[n].Scratch, hidden: map[string]bool{}, shell: []string{"/bin/sh", "-c"}}
}

// inherit takes over the settings of the stage that s is based on.
func (s *stage) inherit(parent *stage) {
	s.closed, s.env, s.hidden = parent.closed, slices.Clone(parent.env), maps.Clone(parent.hidden)
	s.shell, s.entrypoint, s.cmd, s.ready = parent.shell, parent.entrypoint, parent.cmd, parent.ready
}

// start returns the start command: ENTRYPOINT with CMD as its arguments.
func (s *stage) start() string {
	switch {
	case s.entrypoint == nil && s.cmd == nil:
		return ""
	case s.entrypoint == nil:
		return commandLine(*s.cmd, s.shell)
	case s.cmd == nil || s.entrypoint.PrependShell:
		return commandLine(*s.entrypoint, s.shell)
	}
	return "exec " + Quote(append(slices.Clone(s.entrypoint.CmdLine), s.words(*s.cmd)...))
}

// arguments returns the words of a CMD that joins the ENTRYPOINT of the base; nil if the text
// has an ENTRYPOINT, or no CMD.
func (s *stage) arguments() []string {
	if s.entrypoint != nil || s.cmd == nil {
		return nil
	}
	return s.words(*s.cmd)
}

// words returns the words of c as arguments.
func (s *stage) words(c instructions.ShellDependantCmdLine) []string {
	if c.PrependShell {
		return append(slices.Clone(s.shell), strings.Join(c.CmdLine, " "))
	}
	return c.CmdLine
}

// commandLine returns the shell command for c. The default shell runs the shell form
// as it is.
func commandLine(c instructions.ShellDependantCmdLine, shell []string) string {
	switch {
	case len(c.CmdLine) == 0:
		return ""
	case !c.PrependShell:
		return "exec " + Quote(c.CmdLine)
	case slices.Equal(shell, []string{"/bin/sh", "-c"}):
		return strings.Join(c.CmdLine, " ")
	}
	return "exec " + Quote(append(slices.Clone(shell), strings.Join(c.CmdLine, " ")))
}

// Quote returns words as a shell command that has them as they are.
func Quote(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		if w != "" && strings.Trim(w, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:,=@%+") == "" {
			quoted[i] = w
			continue
		}
		quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}

// Unquote returns the words of a command that Quote has written after "exec", and nil for
// another one.
func Unquote(command string) []string {
	rest, ok := strings.CutPrefix(command, "exec ")
	if !ok {
		return nil
	}
	var words []string
	var word strings.Builder
	quoted := false
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '\'':
			quoted = !quoted
		case quoted:
			word.WriteByte(c)
		case c == '\\' && i+1 < len(rest):
			i++
			word.WriteByte(rest[i])
		case c == ' ':
			words = append(words, word.String())
			word.Reset()
		default:
			word.WriteByte(c)
		}
	}
	if words = append(words, word.String()); Quote(words) != rest {
		return nil
	}
	return words
}

// scope returns the variables for expansions: the environment wins over arguments.
func (s *stage) scope() []plan.Variable { return append(slices.Clone(s.args), s.env...) }

// lexer returns a function that expands words, and the set of names that only the base
// image may have set.
func (s *stage) lexer() (func(string) (string, error), map[string]bool) {
	open := map[string]bool{}
	scope := s.scope() // all words of an instruction see the environment before it
	return func(word string) (string, error) {
		out, unknown, err := s.reader.word(word, scope)
		s.markOpen(open, unknown)
		return out, err
	}, open
}

// markOpen adds the names that have to be looked up later.
func (s *stage) markOpen(open map[string]bool, unknown []string) {
	for _, name := range unknown {
		if !s.closed || s.hidden[name] {
			open[name] = true
		}
	}
}

// add appends a step. deferred says that its words are not expanded.
func (s *stage) add(c instructions.Command, step plan.Step, deferred bool) error {
	s.reader.steps++
	if s.reader.steps > plan.MaxSteps {
		return lineError(lineOf(c.Location()), "there are more than %d instructions", plan.MaxSteps)
	}
	step.Text = summary(c)
	if deferred {
		step.Deferred = &plan.Deferred{Escape: string(s.reader.escape), Args: slices.Clone(s.args)}
	}
	s.steps = append(s.steps, step)
	return nil
}

// maxSummary bounds the text of an instruction in logs, in bytes.
const maxSummary = 512

// summary returns the instruction as its author wrote it, on one line.
func summary(c instructions.Command) string {
	text := strings.ToUpper(c.Name())
	if st, ok := c.(interface{ String() string }); ok {
		text = st.String()
	}
	if first, _, more := strings.Cut(text, "\n"); more {
		text = first + " …"
	}
	if text = clean(text); len(text) > maxSummary {
		text = strings.ToValidUTF8(text[:maxSummary], "") + "…"
	}
	return text
}

// instruction reads one instruction.
func (s *stage) instruction(c instructions.Command) error {
	line := lineOf(c.Location())
	switch c := c.(type) {
	case *instructions.RunCommand:
		return s.run(c, line)
	case *instructions.CopyCommand:
		return s.copy(c, line)
	case *instructions.AddCommand:
		return s.addFiles(c, line)
	case *instructions.EnvCommand:
		return s.setEnv(c, line)
	case *instructions.ArgCommand:
		return s.declare(c, line)
	case *instructions.WorkdirCommand:
		word, open := s.lexer()
		path, err := word(c.Path)
		if err != nil {
			return err
		}
		if len(open) > 0 {
			return s.add(c, plan.Step{Workdir: &plan.Workdir{Path: c.Path}}, true)
		}
		return s.add(c, plan.Step{Workdir: &plan.Workdir{Path: path}}, false)
	case *instructions.UserCommand:
		word, open := s.lexer()
		name, err := word(c.User)
		if err != nil {
			return err
		}
		if len(open) > 0 {
			return s.add(c, plan.Step{User: &plan.User{Name: c.User}}, true)
		}
		return s.add(c, plan.Step{User: &plan.User{Name: name}}, false)
	default:
		return s.setting(c, line)
	}
}

// setting reads an instruction that makes no step.
func (s *stage) setting(c instructions.Command, line int) error {
	switch c := c.(type) {
	case *instructions.ShellCommand:
		if len(c.Shell) == 0 {
			return lineError(line, "SHELL needs at least one word")
		}
		s.shell = c.Shell
	case *instructions.CmdCommand:
		s.cmd = &c.ShellDependantCmdLine
		return noFiles(c.Files, line)
	case *instructions.EntrypointCommand:
		s.entrypoint, s.cmd = &c.ShellDependantCmdLine, nil
		return noFiles(c.Files, line)
	case *instructions.HealthCheckCommand:
		s.ready = s.health(c)
	case *instructions.ExposeCommand, *instructions.LabelCommand, *instructions.MaintainerCommand,
		*instructions.StopSignalCommand, *instructions.VolumeCommand, *instructions.OnbuildCommand:
		s.reader.note(line, "%s has no effect here", strings.ToUpper(c.Name()))
	default:
		return lineError(line, "%s is not supported", strings.ToUpper(c.Name()))
	}
	return nil
}

// noFiles refuses here-documents where there can be none.
func noFiles(files []instructions.ShellInlineFile, line int) error {
	if len(files) > 0 {
		return lineError(line, "a here-document cannot be used in CMD and ENTRYPOINT")
	}
	return nil
}

// health returns the command of a health check; empty is none.
func (s *stage) health(c *instructions.HealthCheckCommand) string {
	if c.Health == nil || len(c.Health.Test) < 2 {
		return ""
	}
	switch c.Health.Test[0] {
	case "CMD":
		return "exec " + Quote(c.Health.Test[1:])
	case "CMD-SHELL":
		return commandLine(instructions.ShellDependantCmdLine{CmdLine: c.Health.Test[1:], PrependShell: true}, s.shell)
	}
	return ""
}

// setEnv reads ENV. All values see the environment before the instruction.
func (s *stage) setEnv(c *instructions.EnvCommand, line int) error {
	if len(c.Env) > plan.MaxVariables {
		return lineError(line, "ENV sets more than %d variables", plan.MaxVariables)
	}
	word, open := s.lexer()
	var raw, set []plan.Variable
	for _, kv := range c.Env {
		name, err := word(kv.Key)
		if err != nil {
			return err
		}
		value, err := word(kv.Value)
		if err != nil {
			return err
		}
		if !validName(name) {
			return lineError(line, "%.64q cannot be the name of a variable", name)
		}
		raw, set = append(raw, plan.Variable{Name: kv.Key, Value: kv.Value}), append(set, plan.Variable{Name: name, Value: value})
	}
	last := make(map[string]int, len(set)) // the position of the value that a name gets
	for i, v := range set {
		last[v.Name] = i
	}
	isSet := func(o plan.Variable) bool { _, ok := last[o.Name]; return ok }
	s.env, s.args = slices.DeleteFunc(s.env, isSet), slices.DeleteFunc(s.args, isSet)
	for i, v := range set {
		if last[v.Name] != i {
			continue
		}
		delete(s.hidden, v.Name)
		if len(open) > 0 {
			s.hidden[v.Name] = true
		} else {
			s.env = append(s.env, v)
		}
	}
	if err := s.boundEnv(line); err != nil {
		return err
	}
	if len(open) > 0 {
		return s.add(c, plan.Step{Env: &plan.Env{Set: raw}}, true)
	}
	return s.add(c, plan.Step{Env: &plan.Env{Set: set}}, false)
}

// boundEnv refuses an environment that is too large.
func (s *stage) boundEnv(line int) error {
	size := 0
	for _, v := range s.env {
		size += len(v.Name) + len(v.Value)
	}
	if len(s.env)+len(s.hidden) > plan.MaxVariables || size > plan.MaxEnvironment {
		return lineError(line, "the environment has more than %d variables or %d bytes", plan.MaxVariables, plan.MaxEnvironment)
	}
	return nil
}

// validName reports whether name can be the name of a variable of the environment.
func validName(name string) bool {
	return name != "" && len(name) <= 1024 && !strings.ContainsAny(name, "=\x00")
}

// run reads RUN.
func (s *stage) run(c *instructions.RunCommand, line int) error {
	if len(c.CmdLine) == 0 {
		return lineError(line, "RUN needs a command")
	}
	word, open := s.lexer()
	if err := c.Expand(word); err != nil {
		return err
	}
	if len(open) > 0 {
		return lineError(line, "a mount refers to the variable %.64s, which neither ARG nor ENV sets", slices.Sorted(maps.Keys(open))[0])
	}
	run, err := s.command(c, line)
	if err != nil {
		return err
	}
	if security := instructions.GetSecurity(c); security != "" && security != instructions.SecuritySandbox {
		return lineError(line, "--security=%.64s is not supported", security)
	}
	if len(instructions.GetDevices(c)) > 0 {
		return lineError(line, "--device is not supported")
	}
	switch network := instructions.GetNetwork(c); network {
	case "", instructions.NetworkDefault:
	case instructions.NetworkNone:
		run.Offline = true
	default:
		return lineError(line, "--network=%.64s is not supported; a sandbox has a network of its own", network)
	}
	for _, m := range instructions.GetMounts(c) {
		if err := s.mount(run, m, line); err != nil {
			return err
		}
	}
	run.Env = s.buildEnv()
	return s.add(c, plan.Step{Run: run}, false)
}

// buildEnv returns the build arguments as variables of a command's environment.
func (s *stage) buildEnv() []plan.Variable {
	var out []plan.Variable
	for _, name := range slices.Sorted(maps.Keys(predefined)) {
		if v, ok := s.reader.options.Args[name]; ok {
			out = append(out, plan.Variable{Name: name, Value: v})
		}
	}
	for _, a := range s.args {
		out = slices.DeleteFunc(out, func(o plan.Variable) bool { return o.Name == a.Name })
		if !s.hidden[a.Name] {
			out = append(out, a)
		}
	}
	return out
}

// command returns the command of RUN, with its here-documents.
func (s *stage) command(c *instructions.RunCommand, line int) (*plan.Run, error) {
	args := c.CmdLine
	if len(c.Files) > 0 {
		if len(args) != 1 || !c.PrependShell {
			return nil, lineError(line, "a here-document needs the shell form of RUN")
		}
		only, err := shellHeredoc(args[0])
		if err != nil {
			return nil, err
		}
		if only && strings.HasPrefix(c.Files[0].Data, "#!") {
			return &plan.Run{Script: chomped(c.Files[0])}, bounded(line, c.Files[0].Data)
		}
		args = []string{withDocuments(args[0], c.Files, only)}
	}
	argv := args
	if c.PrependShell {
		argv = append(slices.Clone(s.shell), strings.Join(args, " "))
	}
	return &plan.Run{Argv: argv}, bounded(line, argv...)
}

// withDocuments returns a command with its here-documents, of which the shell takes care
// unless the only one is the script itself.
func withDocuments(command string, files []instructions.ShellInlineFile, only bool) string {
	if only {
		return chomped(files[0])
	}
	var all strings.Builder // there may be many
	for _, f := range files {
		all.WriteString("\n" + f.Data + f.Name)
	}
	return command + all.String()
}

// bounded refuses a command that is too long.
func bounded(line int, words ...string) error {
	total := 0
	for _, w := range words {
		total += len(w)
	}
	if total > plan.MaxText {
		return lineError(line, "the command is longer than %d bytes", plan.MaxText)
	}
	return nil
}

// mount adds a mount to run.
func (s *stage) mount(run *plan.Run, m *instructions.Mount, line int) error {
	switch m.Type {
	case instructions.MountTypeBind:
		return s.bind(run, m, line)
	case instructions.MountTypeCache, instructions.MountTypeTmpfs:
		if m.Target == "" || m.From != "" {
			return lineError(line, "a mount of type %s needs a target, and takes no from", m.Type)
		}
		run.Scratch = append(run.Scratch, m.Target)
	case instructions.MountTypeSecret:
		run.Secrets = append(run.Secrets, secret(m))
	default:
		return lineError(line, "a mount of type %s is not supported; use a secret", m.Type)
	}
	return nil
}

// bind adds the files of a mount of type bind to run.
func (s *stage) bind(run *plan.Run, m *instructions.Mount, line int) error {
	if m.Target == "" {
		return lineError(line, "a mount of type bind needs a target")
	}
	c := plan.Copy{Sources: []string{m.Source}, Dest: m.Target}
	if m.Source == "" {
		c.Sources[0] = "/"
	}
	if err := s.source(&c, m.From, line); err != nil {
		return err
	}
	if c.Context == "" && c.Stage == 0 && c.Base == nil {
		return lineError(line, "the build has no directory to mount")
	}
	if strings.ContainsAny(c.Sources[0], "*?[\\") {
		return lineError(line, "the source of a mount cannot be a pattern")
	}
	run.Binds = append(run.Binds, c)
	return nil
}

// secret returns the secret of a mount, by Docker's rules for its defaults.
func secret(m *instructions.Mount) plan.Secret {
	id := m.CacheID
	if id == "" {
		id = m.Source
	}
	if id == "" {
		id = m.Target[strings.LastIndexByte(m.Target, '/')+1:]
	}
	s := plan.Secret{ID: id, Path: m.Target, Required: m.Required}
	if m.Env != nil {
		if s.Variable = *m.Env; s.Variable == "" {
			s.Variable = id
		}
	}
	if s.Path == "" && m.Env == nil {
		s.Path = "/run/secrets/" + id
	}
	if m.Mode != nil {
		s.Mode = uint32(*m.Mode) & 0o777
	}
	return s
}

// copy reads COPY.
func (s *stage) copy(c *instructions.CopyCommand, line int) error {
	p := &plan.Copy{Exclude: c.ExcludePatterns, Parents: c.Parents}
	if err := s.source(p, c.From, line); err != nil {
		return err
	}
	return s.files(c, p, c.SourcesAndDest, c.Chown, c.Chmod, line)
}

// addFiles reads ADD.
func (s *stage) addFiles(c *instructions.AddCommand, line int) error {
	if c.Checksum != "" || c.KeepGitDir != nil {
		return lineError(line, "ADD cannot fetch URLs here; use RUN with curl or git")
	}
	p := &plan.Copy{Exclude: c.ExcludePatterns, Unpack: c.Unpack == nil || *c.Unpack}
	if err := s.source(p, "", line); err != nil {
		return err
	}
	return s.files(c, p, c.SourcesAndDest, c.Chown, c.Chmod, line)
}

// source sets the source of the files of a COPY.
func (s *stage) source(p *plan.Copy, from string, line int) error {
	if from == "" {
		p.Context = s.reader.options.Context
		return nil
	}
	from, unknown, err := s.reader.word(from, s.scope())
	if err != nil {
		return err
	}
	if len(unknown) > 0 || from == "" {
		return lineError(line, "--from refers to a variable that is not set")
	}
	if n, ok := s.reader.find(from, s.position()); ok {
		if _, err := s.reader.need(n); err != nil {
			return err
		}
		p.Stage = n + 1
		return nil
	}
	base := baseOf(from)
	if base.Scratch {
		return lineError(line, "nothing can be copied from scratch")
	}
	p.Base = &base
	return nil
}

// position returns the position of s among the stages.
func (s *stage) position() int { return slices.Index(s.reader.read, s) }

// files completes a COPY or an ADD.
func (s *stage) files(c instructions.Command, p *plan.Copy, sd instructions.SourcesAndDest, chown, chmod string, line int) error {
	word, open := s.lexer()
	raw := *p
	raw.Sources, raw.Dest, raw.Owner = sd.SourcePaths, sd.DestPath, chown
	e := expander{word: word}
	p.Sources, p.Dest, p.Owner = e.words(sd.SourcePaths), e.expand(sd.DestPath), e.expand(chown)
	mode := e.expand(chmod)
	if e.err != nil {
		return e.err
	}
	if mode != "" {
		bits, err := strconv.ParseUint(mode, 8, 32)
		if err != nil || bits > 0o7777 {
			return lineError(line, "--chmod=%.64s is not octal permission bits", mode)
		}
		b := uint32(bits)
		p.Mode, raw.Mode = &b, &b
	}
	for _, f := range sd.SourceContents {
		if err := s.inline(p, &raw, f, open); err != nil {
			return err
		}
	}
	for _, source := range p.Sources {
		if remote(source) {
			return lineError(line, "%.64s cannot be fetched here; use RUN with curl or git", source)
		}
	}
	if len(p.Sources) > 0 && p.Context == "" && p.Stage == 0 && p.Base == nil {
		return lineError(line, "the build has no directory to copy from")
	}
	if len(open) > 0 {
		return s.add(c, plan.Step{Copy: &raw}, true)
	}
	return s.add(c, plan.Step{Copy: p}, false)
}

// inline adds the content of a here-document.
func (s *stage) inline(p, raw *plan.Copy, f instructions.SourceContent, open map[string]bool) error {
	data := f.Data
	if f.Expand {
		out, unknown, err := expandText(f.Data, s.scope(), s.reader.budget)
		if err != nil {
			return err
		}
		s.markOpen(open, unknown)
		data = out
	}
	p.Content = append(p.Content, plan.Inline{Name: f.Path, Data: data})
	raw.Content = append(raw.Content, plan.Inline{Name: f.Path, Data: f.Data, Expand: f.Expand})
	return nil
}

// remote reports whether a source of ADD is a URL or a repository.
func remote(source string) bool {
	return strings.Contains(source, "://") || strings.HasPrefix(source, "git@")
}
