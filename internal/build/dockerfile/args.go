package dockerfile

import (
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// predefined are the build arguments that RUN gets without a declaration.
var predefined = map[string]bool{
	"HTTP_PROXY": true, "http_proxy": true, "HTTPS_PROXY": true, "https_proxy": true, "FTP_PROXY": true,
	"ftp_proxy": true, "NO_PROXY": true, "no_proxy": true, "ALL_PROXY": true, "all_proxy": true,
}

// platformArgs are the arguments that BuildKit sets.
func platformArgs() []plan.Variable {
	var out []plan.Variable
	for _, side := range []string{"BUILD", "TARGET"} {
		out = append(out, plan.Variable{Name: side + "PLATFORM", Value: "linux/amd64"}, plan.Variable{Name: side + "OS", Value: "linux"},
			plan.Variable{Name: side + "ARCH", Value: "amd64"}, plan.Variable{Name: side + "VARIANT"})
	}
	return out
}

// metaArgs reads the ARGs before the first FROM.
func (r *reader) metaArgs(meta []instructions.ArgCommand) error {
	for _, c := range meta {
		line := lineOf(c.Location())
		for _, a := range c.Args {
			scope := append(platformArgs(), r.global...)
			value, set, err := r.argument(a, scope, nil)
			if err != nil {
				return located(err, line)
			}
			if len(r.global) >= maxArgs {
				return lineError(line, "there are more than %d arguments", maxArgs)
			}
			if set {
				r.global = append(r.global, plan.Variable{Name: a.Key, Value: value})
			}
		}
	}
	return nil
}

// maxArgs bounds the arguments of a scope.
const maxArgs = 500

// argument returns the value of an argument: the caller's, else the default, else that of
// the same name in outer. set is false if there is none.
func (r *reader) argument(a instructions.KeyValuePairOptional, scope, outer []plan.Variable) (value string, set bool, err error) {
	if r.declared++; r.declared > maxDeclared {
		return "", false, fault.New(fault.Invalid, Reason, "the text declares more than %d arguments", maxDeclared)
	}
	r.used[a.Key] = true
	if v, ok := r.options.Args[a.Key]; ok {
		if len(v) > plan.MaxText {
			return "", false, lineError(1, "the build argument %.64s is longer than %d bytes", a.Key, plan.MaxText)
		}
		return v, true, nil
	}
	if a.Value != nil {
		value, _, err = r.word(*a.Value, scope)
		return value, err == nil, err
	}
	value, set = variables(outer).Get(a.Key)
	return value, set, nil
}

// declare reads ARG in a stage.
func (s *stage) declare(c *instructions.ArgCommand, line int) error {
	for _, a := range c.Args {
		if !validName(a.Key) {
			return lineError(line, "%.64q cannot be the name of an argument", a.Key)
		}
		value, set, err := s.reader.argument(a, s.scope(), append(platformArgs(), s.reader.global...))
		if err != nil {
			return err
		}
		if len(s.args) >= maxArgs {
			return lineError(line, "there are more than %d arguments", maxArgs)
		}
		s.args = slices.DeleteFunc(s.args, func(o plan.Variable) bool { return o.Name == a.Key })
		if _, overridden := variables(s.env).Get(a.Key); set && !overridden {
			s.args = append(s.args, plan.Variable{Name: a.Key, Value: value})
		}
	}
	return nil
}

// shellHeredoc reports whether a command is nothing but a here-document.
func shellHeredoc(command string) (bool, error) {
	h, err := parser.ParseHeredoc(command)
	return h != nil, err
}

// chomped returns the content of a here-document; "<<-" takes leading tabs away.
func chomped(f instructions.ShellInlineFile) string {
	if f.Chomp {
		return parser.ChompHeredocContent(f.Data)
	}
	return strings.Clone(f.Data)
}
