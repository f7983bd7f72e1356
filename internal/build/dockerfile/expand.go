package dockerfile

import (
	"slices"
	"unicode/utf8"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
)

// variables is a scope for the expansion of words; later ones win.
type variables []plan.Variable

// Get returns the value of a variable.
func (v variables) Get(name string) (string, bool) {
	for i := len(v) - 1; i >= 0; i-- {
		if v[i].Name == name {
			return v[i].Value, true
		}
	}
	return "", false
}

// expandWord expands a word within b, and returns the names in it that scope lacks.
func expandWord(escape rune, word string, scope []plan.Variable, b *budget) (string, []string, error) {
	l := lexer{escape: escape, scope: scope, budget: b}
	return l.expand(word)
}

// expandText expands the text of a here-document, in which quotes mean nothing.
func expandText(text string, scope []plan.Variable, b *budget) (string, []string, error) {
	l := lexer{escape: '\\', text: true, scope: scope, budget: b}
	return l.expand(text)
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
	left := newBudget()
	e := expander{word: func(w string) (string, error) {
		out, _, err := expandWord(escape, w, scope, left)
		return out, err
	}, text: func(w string) (string, error) {
		out, _, err := expandText(w, scope, left)
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
	err        error
}

func (e *expander) expand(w string) string { return e.apply(e.word, w) }

// apply returns the result of an expansion, and nothing after the first failure.
func (e *expander) apply(expand func(string) (string, error), w string) string {
	if e.err != nil {
		return ""
	}
	out, err := expand(w)
	e.err = err
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
		if f.Expand {
			c.Content[i].Data = e.apply(e.text, f.Data)
			c.Content[i].Expand = false
		}
	}
}
