package templates

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path"
	"slices"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/build/dockerfile"
	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// state is the part of a stage that is no file: it follows from the base and the steps.
type state struct {
	env []plan.Variable
	// user and workdir are empty until something has set them.
	user, workdir string
}

// defaultPath is the PATH of an image that sets none, as in Docker.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// get returns a variable of the environment.
func get(env []plan.Variable, name string) string {
	for _, v := range env {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

// set returns env with a variable changed.
func set(env []plan.Variable, v plan.Variable) []plan.Variable {
	out := slices.Clone(env)
	for i := range out {
		if out[i].Name == v.Name {
			out[i] = v
			return out
		}
	}
	return append(out, v)
}

// maxPath is the longest path of a working directory in bytes.
const maxPath = 4096

// expand returns step with all words expanded against the state. The result is bounded: an
// error is Invalid.
func (s state) expand(step plan.Step) (plan.Step, error) {
	env := s.env
	if get(env, "PATH") == "" {
		env = set(env, plan.Variable{Name: "PATH", Value: defaultPath})
	}
	step, err := dockerfile.ExpandStep(step, env)
	switch {
	case err != nil:
		return step, err
	case step.Workdir != nil && len(s.join(step.Workdir.Path)) > maxPath:
		return step, fault.New(fault.Invalid, "invalid_plan", "the working directory has more than %d bytes", maxPath)
	case step.Env != nil:
		step.Env, err = expandEnv(*step.Env, env)
	}
	return step, err
}

// maxPlanned is the most bytes of the expanded words of all steps of a build.
const maxPlanned = 32 << 20

// expandedSize returns the bytes of the words of an expanded step.
func expandedSize(step plan.Step) int {
	size := 0
	switch {
	case step.Env != nil:
		for _, v := range step.Env.Set {
			size += len(v.Name) + len(v.Value)
		}
	case step.Workdir != nil:
		size = len(step.Workdir.Path)
	case step.User != nil:
		size = len(step.User.Name)
	case step.Copy != nil:
		size = len(step.Copy.Dest) + len(step.Copy.Owner)
		for _, source := range step.Copy.Sources {
			size += len(source)
		}
		for _, f := range step.Copy.Content {
			size += len(f.Data)
		}
	}
	return size
}

// expandEnv returns e with its values expanded against env, and each name once, with its last
// value.
func expandEnv(e plan.Env, env []plan.Variable) (*plan.Env, error) {
	values, size := make(map[string]string, len(env)), 0
	for _, v := range env {
		values[v.Name] = v.Value
		size += len(v.Name) + len(v.Value)
	}
	out, places := &plan.Env{}, map[string]int{}
	for _, v := range e.Set {
		if e.Expand {
			// Each value sees those before it.
			v.Value = expandSimple(v.Value, func(name string) string { return values[name] })
		}
		if old, known := values[v.Name]; known {
			size -= len(v.Name) + len(old)
		}
		size += len(v.Name) + len(v.Value)
		values[v.Name] = v.Value
		if size > plan.MaxEnvironment || len(values) > plan.MaxVariables || len(v.Value) > plan.MaxText {
			return nil, fault.New(fault.Invalid, "invalid_plan", "the environment has more than %d variables or %d bytes, or a value of more than %d bytes",
				plan.MaxVariables, plan.MaxEnvironment, plan.MaxText)
		}
		if i, again := places[v.Name]; again {
			out.Set[i].Value = v.Value
			continue
		}
		places[v.Name] = len(out.Set)
		out.Set = append(out.Set, v)
	}
	return out, nil
}

// expandSimple replaces "$NAME" and "${NAME}". A backslash makes "$" and itself literal. It
// stops when the result is longer than plan.MaxText.
func expandSimple(s string, value func(string) string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		switch {
		case s[i] == '\\' && i+1 < len(s) && (s[i+1] == '$' || s[i+1] == '\\'):
			b.WriteByte(s[i+1])
			i += 2
		case s[i] == '$':
			name, n := variableName(s[i+1:])
			if n == 0 {
				b.WriteByte('$')
			} else {
				b.WriteString(value(name))
			}
			i += 1 + n
		default:
			b.WriteByte(s[i])
			i++
		}
		if b.Len() > plan.MaxText {
			break
		}
	}
	return b.String()
}

// variableName returns the name that follows a "$", and the bytes that it takes.
func variableName(s string) (string, int) {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789"
	if rest, ok := strings.CutPrefix(s, "{"); ok {
		name, _, closed := strings.Cut(rest, "}")
		if !closed || name == "" || strings.Trim(name, letters) != "" {
			return "", 0
		}
		return name, len(name) + 2
	}
	n := len(s) - len(strings.TrimLeft(s, letters))
	if n == 0 || s[0] >= '0' && s[0] <= '9' {
		return "", 0
	}
	return s[:n], n
}

// after returns the state after an expanded step.
func (s state) after(step plan.Step) state {
	switch {
	case step.Env != nil:
		s.env = slices.Clone(s.env)
		places := make(map[string]int, len(s.env))
		for i, v := range s.env {
			places[v.Name] = i
		}
		for _, v := range step.Env.Set {
			if i, known := places[v.Name]; known {
				s.env[i] = v
				continue
			}
			places[v.Name] = len(s.env)
			s.env = append(s.env, v)
		}
	case step.Workdir != nil:
		s.workdir = s.join(step.Workdir.Path)
	case step.User != nil:
		s.user = step.User.Name
	}
	return s
}

// join returns the absolute path that p means as a working directory.
func (s state) join(p string) string {
	if path.IsAbs(p) {
		return path.Clean(p)
	}
	return path.Join("/", s.workdir, p)
}

// nextKey returns the key of the layer after a step. extra is the digest of the files
// that it takes.
func nextKey(key string, step plan.Step, extra string) string {
	step.ID, step.Text, step.NoCache, step.Deferred = "", "", false, nil
	if step.Run != nil {
		// A limit that was not reached changes nothing.
		r := *step.Run
		r.Timeout = 0
		step.Run = &r
	}
	// The content decides, not the archive that brings it.
	if step.Copy != nil {
		c := *step.Copy
		c.Context, c.Stage, c.Base = "", 0, nil
		step.Copy = &c
	}
	if step.Run != nil && len(step.Run.Binds) > 0 {
		r := *step.Run
		r.Binds = slices.Clone(r.Binds)
		for i := range r.Binds {
			r.Binds[i].Context, r.Binds[i].Stage, r.Binds[i].Base = "", 0, nil
		}
		step.Run = &r
	}
	return digest(key, step, extra)
}

// digest returns the SHA-256 of values as JSON.
func digest(values ...any) string {
	text, err := json.Marshal(values)
	if err != nil { // only of types that JSON does not know
		panic(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
