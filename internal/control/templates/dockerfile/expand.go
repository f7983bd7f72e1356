package dockerfile

import (
	"regexp"
	"slices"
	"unicode/utf8"

	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"github.com/wrenn-dev/wrenn/internal/control/templates/plan"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// variables is a scope for the expansion of words; later ones win.
type variables []plan.Variable

// Get implements shell.EnvGetter.
func (v variables) Get(name string) (string, bool) {
	for i := len(v) - 1; i >= 0; i-- {
		if v[i].Name == name {
			return v[i].Value, true
		}
	}
	return "", false
}

// Keys implements shell.EnvGetter.
func (v variables) Keys() []string {
	var out []string
	for _, x := range v {
		out = append(out, x.Name)
	}
	return out
}

// maxExpanded is the most bytes of all expansions of a text, or of one step.
const maxExpanded = 4 << 20

// tooLong is the fault of an expansion that exceeds a bound.
func tooLong() error {
	return fault.New(fault.Invalid, Reason, "a value is longer than %d bytes after its expansion, one in a pattern than %d, or all values together than %d",
		plan.MaxText, maxPatternValue, maxExpanded)
}

// lookup is a scope for one expansion. It returns values of at most most bytes each and left
// bytes in all, so that a text cannot name a long value many times.
type lookup struct {
	variables
	most, left int
	over       bool
}

// Get implements shell.EnvGetter.
func (l *lookup) Get(name string) (string, bool) {
	value, ok := l.variables.Get(name)
	if l.left -= len(value); l.left < 0 || len(value) > l.most {
		l.over = true
		return "", ok
	}
	return value, ok
}

// expandWord expands a word, and returns the names in it that scope lacks.
func expandWord(escape rune, word string, scope []plan.Variable) (string, []string, error) {
	return expandWith(shell.NewLex(escape), word, scope)
}

// expandText expands the text of a here-document, in which quotes mean nothing.
func expandText(escape rune, text string, scope []plan.Variable) (string, []string, error) {
	lex := shell.NewLex(escape)
	lex.SkipProcessQuotes = true
	return expandWith(lex, text, scope)
}

// replacement matches the begin of "${NAME/PATTERN/TEXT}", and pattern that of every expansion
// with a pattern.
var (
	replacement = regexp.MustCompile(`\$\{[^{}:/#%+?-]*/`)
	pattern     = regexp.MustCompile(`\$\{[^{}:/#%+?-]*[/#%]`)
)

// Bounds of words with patterns, in bytes. The work of a match is the product of pattern and
// value, and a replacement can multiply the value by the length of its text.
const (
	maxPatternValue    = 4 << 10
	maxReplacementWord = 1 << 10
	// maxNestedValue bounds all values if a replacement may be in the text of another one.
	maxNestedValue  = 256
	maxReplacements = 2
)

// lookupOf returns the scope for the expansion of word.
func lookupOf(word string, scope []plan.Variable) (*lookup, error) {
	// A value can be looked up and not used, as in "${A:+x}".
	l := &lookup{variables: scope, most: plan.MaxText, left: 4 * plan.MaxText}
	if !pattern.MatchString(word) {
		return l, nil
	}
	l.most = maxPatternValue
	n := len(replacement.FindAllStringIndex(word, maxReplacements+1))
	switch {
	case n > maxReplacements || n > 0 && len(word) > maxReplacementWord:
		return nil, fault.New(fault.Invalid, Reason, "a word with a replacement, such as ${NAME/PATTERN/TEXT}, has at most %d bytes and %d replacements",
			maxReplacementWord, maxReplacements)
	case n > 1:
		l.left = maxNestedValue
	case n > 0:
		l.left = maxPatternValue
	}
	return l, nil
}

func expandWith(lex *shell.Lex, word string, scope []plan.Variable) (string, []string, error) {
	values, err := lookupOf(word, scope)
	if err != nil {
		return "", nil, err
	}
	r, err := lex.ProcessWordWithMatches(word, values)
	if values.over || err == nil && len(r.Result) > plan.MaxText {
		return "", nil, tooLong()
	}
	if err != nil {
		return "", nil, err
	}
	var unknown []string
	for name := range r.Unmatched {
		unknown = append(unknown, name)
	}
	slices.Sort(unknown)
	return r.Result, unknown, nil
}

// ExpandStep returns s with its deferred words expanded against the build arguments in
// its scope and the environment env, which wins. s is not changed.
func ExpandStep(s plan.Step, env []plan.Variable) (plan.Step, error) {
	if s.Deferred == nil {
		return s, nil
	}
	escape, _ := utf8.DecodeRuneInString(s.Deferred.Escape)
	scope := append(slices.Clone(s.Deferred.Args), env...)
	s.Deferred = nil
	e := expander{word: func(w string) (string, error) {
		out, _, err := expandWord(escape, w, scope)
		return out, err
	}, text: func(w string) (string, error) {
		out, _, err := expandText('\\', w, scope)
		return out, err
	}}
	switch {
	case s.Env != nil:
		s.Env = &plan.Env{Set: e.variables(s.Env.Set)}
	case s.Workdir != nil:
		s.Workdir = &plan.Workdir{Path: e.expand(s.Workdir.Path)}
	case s.User != nil:
		s.User = &plan.User{Name: e.expand(s.User.Name), Create: s.User.Create}
	case s.Copy != nil:
		c := *s.Copy
		e.copy(&c)
		s.Copy = &c
	}
	return s, e.err
}

// expander expands words until one fails.
type expander struct {
	word, text func(string) (string, error)
	spent      int // bytes of the results
	err        error
}

func (e *expander) expand(w string) string {
	if e.err != nil {
		return ""
	}
	return e.spend(e.word(w))
}

// spend returns the result of an expansion, and nothing after the first failure.
func (e *expander) spend(out string, err error) string {
	if e.spent += len(out); err == nil && e.spent > maxExpanded {
		err = tooLong()
	}
	if e.err = err; err != nil {
		return ""
	}
	return out
}

func (e *expander) variables(in []plan.Variable) []plan.Variable {
	var out []plan.Variable
	for _, v := range in {
		out = append(out, plan.Variable{Name: e.expand(v.Name), Value: e.expand(v.Value)})
	}
	return out
}

func (e *expander) words(in []string) []string {
	var out []string
	for _, w := range in {
		out = append(out, e.expand(w))
	}
	return out
}

// copy replaces the words of c.
func (e *expander) copy(c *plan.Copy) {
	c.Sources, c.Dest, c.Owner = e.words(c.Sources), e.expand(c.Dest), e.expand(c.Owner)
	c.Content = slices.Clone(c.Content)
	for i, f := range c.Content {
		if f.Expand && e.err == nil {
			c.Content[i].Data = e.spend(e.text(f.Data))
			c.Content[i].Expand = false
		}
	}
}
