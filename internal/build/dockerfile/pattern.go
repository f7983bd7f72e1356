package dockerfile

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
)

// pattern is a pattern of "${NAME#PATTERN}" and its relatives, without adjacent stars.
type pattern []part

// part is a part of a pattern: a character, any character but a line feed, or any number of
// these.
type part struct {
	kind kind
	char rune
}

type kind byte

const (
	literal kind = iota
	anyChar
	star
)

// matches reports whether p matches one character. A star matches every character that it passes.
func (p part) matches(c rune) bool {
	if p.kind == literal {
		return c == p.char
	}
	return c != '\n'
}

// parsePattern reads a pattern by BuildKit's rules for escapes.
func parsePattern(text string) (pattern, error) {
	var out pattern
	in := []rune(text)
	for i := 0; i < len(in); i++ {
		switch c := in[i]; c {
		case '*':
			if len(out) == 0 || out[len(out)-1].kind != star {
				out = append(out, part{kind: star})
			}
		case '?':
			out = append(out, part{kind: anyChar})
		case '\\':
			if i++; i == len(in) || !strings.ContainsRune(`*?\}/`, in[i]) {
				return nil, fmt.Errorf("invalid pattern (%.64s) in substitution: a backslash comes before none of * ? \\ } /", text)
			}
			out = append(out, part{char: in[i]})
		default:
			out = append(out, part{char: c})
		}
	}
	return out, nil
}

// prefix returns the length of the longest or shortest beginning of text that p matches; 0 if
// there is none.
func (p pattern) prefix(text []rune, longest bool) int {
	// can[i] says that the parts so far match the first i characters.
	can := make([]bool, len(text)+1)
	can[0] = true
	for _, part := range p {
		if part.kind == star {
			for i, c := range text {
				can[i+1] = can[i+1] || can[i] && part.matches(c)
			}
			continue
		}
		for i := len(text); i > 0; i-- {
			can[i] = can[i-1] && part.matches(text[i-1])
		}
		can[0] = false
	}
	if !longest {
		return max(slices.Index(can, true), 0)
	}
	for i := len(text); i > 0; i-- {
		if can[i] {
			return i
		}
	}
	return 0
}

// find returns the first match in text from the position from on, and of these the longest. It
// takes the work of its comparisons from b.
func (p pattern) find(text []rune, from int, b *budget) (start, end int, found bool, err error) {
	if !slices.ContainsFunc(p, func(x part) bool { return x.kind == star }) {
		return p.findFixed(text, from, b)
	}
	text = text[from:]
	if err := b.spend((len(p) + 1) * (len(text) + 1)); err != nil {
		return 0, 0, false, err
	}
	// starts[i] is the smallest begin of a text that ends before i and matches the parts so far.
	const none = int(^uint(0) >> 1)
	starts := make([]int, len(text)+1)
	for i := range starts {
		starts[i] = i
	}
	for _, part := range p {
		if part.kind == star {
			for i, c := range text {
				if part.matches(c) {
					starts[i+1] = min(starts[i+1], starts[i])
				}
			}
			continue
		}
		for i := len(text); i > 0; i-- {
			if starts[i] = none; part.matches(text[i-1]) {
				starts[i] = starts[i-1]
			}
		}
		starts[0] = none
	}
	start = slices.Min(starts)
	for i := len(text); i >= 0; i-- {
		if starts[i] == start && start != none {
			return from + start, from + i, true, nil
		}
	}
	return 0, 0, false, nil
}

// findFixed is find for a pattern without stars.
func (p pattern) findFixed(text []rune, from int, b *budget) (start, end int, found bool, err error) {
	work := 0
	for i := from; i+len(p) <= len(text); i++ {
		n := 0
		for n < len(p) && p[n].matches(text[i+n]) {
			n++
		}
		work += n + 1
		if n == len(p) {
			return i, i + n, true, b.spend(work)
		}
	}
	return 0, 0, false, b.spend(work)
}

// offsets returns the positions of the characters of s in bytes, and its length.
func offsets(s string) []int {
	out := make([]int, 0, len(s)+1)
	for i := range s {
		out = append(out, i)
	}
	return append(out, len(s))
}

// noGroups is a regular expression without groups.
var noGroups = regexp.MustCompile("")

// replace returns value with the first match, or all of them, replaced by text. If all are
// replaced, "$0" in text is the match and other names are empty, as in BuildKit.
func (p pattern) replace(value, text string, all bool, b *budget) (string, error) {
	chars, at := []rune(value), offsets(value)
	out := result{budget: b}
	last := 0 // the end of the last match
	for pos := 0; pos <= len(chars); {
		start, end, found, err := p.find(chars, pos, b)
		if err != nil {
			return "", err
		}
		if !found {
			break
		}
		if err := out.add(value[at[last]:at[start]]); err != nil {
			return "", err
		}
		if end > last || start == 0 {
			with := text
			if all && strings.Contains(text, "$") {
				if strings.Count(text, "$")*(at[end]-at[start]) > plan.MaxText {
					return "", tooLong()
				}
				with = string(noGroups.ExpandString(nil, text, value, []int{at[start], at[end]}))
			}
			if err := out.add(with); err != nil {
				return "", err
			}
		}
		last, pos = end, max(end, pos+1)
		if !all {
			break
		}
	}
	if err := out.add(value[at[last]:]); err != nil {
		return "", err
	}
	return out.String(), nil
}
