package dockerfile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Bounds of the expansions of a text, or of one step.
const (
	// maxExpanded is the most bytes of all results.
	maxExpanded = 4 << 20
	// maxWork is the most work of all expansions: characters that are read and written,
	// comparisons of a character with a part of a pattern, and, eight for one, variables that
	// are compared with a name.
	maxWork = 32 << 20
	// maxLookedUp is the most bytes of all values that one word names. A value can be looked up
	// and not used, as in "${A:+x}".
	maxLookedUp = 4 * plan.MaxText
	// maxNesting is the largest depth of "${A-${B-...}}".
	maxNesting = 32
)

// budget is the rest of the bounds of a text, or of one step.
type budget struct{ bytes, work int }

func newBudget() *budget { return &budget{bytes: maxExpanded, work: maxWork} }

// spend takes work, and fails if there is too little.
func (b *budget) spend(work int) error {
	if b.work -= work; b.work < 0 {
		return fault.New(fault.Invalid, Reason, "the expansion of its variables takes too much work; use shorter patterns and values, or RUN with a shell")
	}
	return nil
}

// tooLong is the fault of an expansion that exceeds a bound.
func tooLong() error {
	return fault.New(fault.Invalid, Reason, "a value is longer than %d bytes after its expansion, those of a word together than %d, or all values together than %d",
		plan.MaxText, maxLookedUp, maxExpanded)
}

// eof is the end of a word in place of a character.
const eof rune = -1

// lexer expands one word as BuildKit's shell.Lex does, which has no bounds.
type lexer struct {
	escape rune
	// text says that quotes mean nothing, as in a here-document.
	text   bool
	rest   string
	scope  variables
	budget *budget
	// left is the most bytes of the values that are still to be looked up.
	left  int
	depth int
	// raw keeps escapes, as the patterns need them.
	raw     bool
	unknown map[string]bool
}

// expand returns the expanded word, and the sorted names in it that scope lacks.
func (l *lexer) expand(word string) (string, []string, error) {
	l.rest, l.left, l.unknown = strings.TrimPrefix(word, "\uFEFF"), maxLookedUp, map[string]bool{}
	out, err := l.until(eof, false, false)
	switch {
	case fault.Is(err, fault.Invalid):
		return "", nil, err
	case err != nil:
		return "", nil, fmt.Errorf("failed to process %.256q: %w", word, err)
	}
	if l.budget.bytes -= len(out); l.budget.bytes < 0 {
		return "", nil, tooLong()
	}
	var unknown []string
	for name := range l.unknown {
		unknown = append(unknown, name)
	}
	slices.Sort(unknown)
	return out, unknown, nil
}

// peek returns the next character.
func (l *lexer) peek() rune {
	if l.rest == "" {
		return eof
	}
	r, _ := utf8.DecodeRuneInString(l.rest)
	return r
}

// next returns the next character and passes it.
func (l *lexer) next() rune {
	if l.rest == "" {
		return eof
	}
	r, n := utf8.DecodeRuneInString(l.rest)
	l.rest = l.rest[n:]
	return r
}

// get returns the value of a variable.
func (l *lexer) get(name string) (string, bool, error) {
	value, ok := l.scope.Get(name)
	if !ok {
		l.unknown[name] = true
	}
	if l.left -= len(value); l.left < 0 {
		return "", ok, tooLong()
	}
	return value, ok, l.budget.spend(1 + len(l.scope)/8)
}

// result is the text of an expansion so far.
type result struct {
	strings.Builder
	budget *budget
}

// add adds s within the bounds.
func (r *result) add(s string) error {
	if r.Len()+len(s) > plan.MaxText {
		return tooLong()
	}
	r.WriteString(s)
	return r.budget.spend(1 + len(s))
}

func (r *result) addRune(c rune) error { return r.add(string(c)) }

// until expands the word up to stop, which it passes. raw keeps escapes; inPattern doubles
// those that quotes make literal, because the pattern is read again.
func (l *lexer) until(stop rune, raw, inPattern bool) (string, error) {
	outer := l.raw
	l.raw = raw
	defer func() { l.raw = outer }()
	out := result{budget: l.budget}
	for c := l.peek(); c != eof; c = l.peek() {
		if c == stop {
			l.next()
			return out.String(), nil
		}
		part, err := "", error(nil)
		switch {
		case c == '$':
			part, err = l.dollar()
		case c == '\'' && !l.text:
			part, err = l.single(inPattern)
		case c == '"' && !l.text:
			part, err = l.double(inPattern)
		default:
			part = l.plain()
		}
		if err != nil {
			return "", err
		}
		if err := out.add(part); err != nil {
			return "", err
		}
	}
	if stop != eof {
		return "", fmt.Errorf("unexpected end of statement while looking for matching %c", stop)
	}
	return out.String(), nil
}

// plain reads a character outside of quotes, or an escape.
func (l *lexer) plain() string {
	c := l.next()
	if c != l.escape {
		return string(c)
	}
	kept := ""
	if l.raw {
		kept = string(c)
	}
	if c = l.next(); c == eof {
		return kept
	}
	return kept + string(c)
}

// single reads a text in single quotes.
func (l *lexer) single(inPattern bool) (string, error) {
	out := result{budget: l.budget}
	l.next()
	for {
		c := l.next()
		switch {
		case c == eof:
			return "", errors.New("unexpected end of statement while looking for matching single-quote")
		case c == '\'':
			return out.String(), nil
		case c == l.escape && inPattern:
			if err := out.addRune(c); err != nil {
				return "", err
			}
		}
		if err := out.addRune(c); err != nil {
			return "", err
		}
	}
}

// double reads a text in double quotes.
func (l *lexer) double(inPattern bool) (string, error) {
	out := result{budget: l.budget}
	l.next()
	for {
		switch l.peek() {
		case eof:
			return "", errors.New("unexpected end of statement while looking for matching double-quote")
		case '"':
			l.next()
			return out.String(), nil
		case '$':
			value, err := l.dollar()
			if err != nil {
				return "", err
			}
			if err := out.add(value); err != nil {
				return "", err
			}
		default:
			if err := out.add(l.doublePlain()); err != nil {
				return "", err
			}
		}
	}
}

// doublePlain reads a character in double quotes, or an escape, which only some characters
// need.
func (l *lexer) doublePlain() string {
	c := l.next()
	if c != l.escape {
		return string(c)
	}
	switch next := l.peek(); next {
	case eof:
		return ""
	case '"', '$', l.escape:
		l.next()
		if l.raw {
			return string(c) + string(next)
		}
		return string(next)
	}
	if l.raw {
		return string(c) + string(c)
	}
	return string(c)
}

// name reads the name of a variable; a special parameter such as "?" is one too.
func (l *lexer) name() string {
	first := l.peek()
	in := func(c rune) bool { return unicode.IsLetter(c) || unicode.IsDigit(c) || c == '_' }
	switch {
	case first == eof:
		return ""
	case unicode.IsDigit(first):
		in = unicode.IsDigit
	case strings.ContainsRune("@*#?-$!", first):
		return string(l.next())
	}
	start := l.rest
	for c := l.peek(); c != eof && in(c); c = l.peek() {
		l.next()
	}
	return strings.ToValidUTF8(start[:len(start)-len(l.rest)], "\uFFFD")
}

// dollar reads "$NAME" or "${...}".
func (l *lexer) dollar() (string, error) {
	l.next()
	if l.peek() != '{' {
		name := l.name()
		if name == "" {
			return "$", nil
		}
		value, _, err := l.get(name)
		return value, err
	}
	l.next()
	switch l.peek() {
	case eof:
		return "", errors.New("syntax error: missing '}'")
	case '{', '}', ':':
		return "", errors.New("syntax error: bad substitution")
	}
	name := l.name()
	if l.depth++; l.depth > maxNesting {
		return "", fault.New(fault.Invalid, Reason, "the expansions of variables are nested deeper than %d levels", maxNesting)
	}
	defer func() { l.depth-- }()
	modifier := l.next()
	switch modifier {
	case '}':
		value, _, err := l.get(name)
		return value, err
	case ':':
		modifier = l.next()
		if !strings.ContainsRune("-+?", modifier) {
			return "", fmt.Errorf("unsupported modifier (:%c) in substitution", modifier)
		}
		return l.alternative(name, modifier, true)
	case '-', '+', '?':
		return l.alternative(name, modifier, false)
	case '#', '%':
		return l.trim(name, modifier)
	case '/':
		return l.replace(name)
	}
	return "", fmt.Errorf("unsupported modifier (%c) in substitution", modifier)
}

// operand reads the operand of an expansion.
func (l *lexer) operand(stop rune, raw, inPattern bool) (string, error) {
	out, err := l.until(stop, raw, inPattern)
	if err != nil && !fault.Is(err, fault.Invalid) && l.peek() == eof {
		err = fmt.Errorf("syntax error: missing '%c'", stop)
	}
	return out, err
}

// alternative reads the rest of "${NAME-WORD}", "${NAME+WORD}" and "${NAME?WORD}". empty says
// that an empty variable counts as unset.
func (l *lexer) alternative(name string, modifier rune, empty bool) (string, error) {
	word, err := l.operand('}', false, false)
	if err != nil {
		return "", err
	}
	value, set, err := l.get(name)
	if err != nil {
		return "", err
	}
	usable := set && (!empty || value != "")
	switch {
	case modifier == '+' && usable || modifier == '-' && !usable:
		return word, nil
	case modifier == '+':
		return "", nil
	case usable:
		return value, nil
	case word != "":
		return "", fmt.Errorf("%s: %s", name, word)
	case set:
		return "", fmt.Errorf("%s: is not allowed to be empty", name)
	}
	return "", fmt.Errorf("%s: is not allowed to be unset", name)
}

// trim reads the rest of "${NAME#PATTERN}" and its relatives.
func (l *lexer) trim(name string, modifier rune) (string, error) {
	word, err := l.operand('}', true, true)
	if err != nil {
		return "", err
	}
	value, _, err := l.get(name)
	if err != nil {
		return "", err
	}
	word, longest := strings.CutPrefix(word, string(modifier))
	p, err := parsePattern(word)
	if err != nil {
		return "", err
	}
	// The work is known before.
	if err := l.budget.spend((len(p) + 1) * (len(value) + 1)); err != nil {
		return "", err
	}
	text := []rune(value)
	if modifier == '%' {
		slices.Reverse(p)
		slices.Reverse(text)
		text = text[p.prefix(text, longest):]
		slices.Reverse(text)
		return string(text), nil
	}
	at := offsets(value)
	return value[at[p.prefix(text, longest)]:], nil
}

// replace reads the rest of "${NAME/PATTERN/TEXT}" and "${NAME//PATTERN/TEXT}".
func (l *lexer) replace(name string) (string, error) {
	all := l.peek() == '/'
	if all {
		l.next()
	}
	word, err := l.operand('/', true, true)
	if err != nil {
		return "", err
	}
	text, err := l.operand('}', true, false)
	if err != nil {
		return "", err
	}
	value, _, err := l.get(name)
	if err != nil {
		return "", err
	}
	p, err := parsePattern(word)
	if err != nil {
		return "", err
	}
	return p.replace(value, text, all, l.budget)
}
