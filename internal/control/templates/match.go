package templates

import (
	"context"
	"path"
	"slices"
	"strings"
)

const (
	// maxParts is the most parts of a pattern. A longer one matches nothing.
	maxParts = 64
	// maxMatchWork bounds the work of all matches of one COPY: bytes of a part of a pattern
	// times bytes of a part of a name.
	maxMatchWork = 8 << 30
	// matchPause is the work after which the context is checked again.
	matchPause = 1 << 22
)

// matcher compares names with patterns, and counts the work.
type matcher struct {
	left int // work
	next int // the context is checked when left is less
	can  [2][]bool
}

func newMatcher() *matcher { return &matcher{left: maxMatchWork, next: maxMatchWork} }

// spend takes work. It fails if there is too little, or after the end of ctx.
func (m *matcher) spend(ctx context.Context, work int) error {
	if m.left -= work; m.left < 0 {
		return tooMany("the patterns of a COPY take too much work; use fewer or shorter ones, or copy a directory instead")
	}
	if m.left < m.next {
		m.next = m.left - matchPause
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// pathPattern is a pattern of paths.
type pathPattern struct {
	parts []patternPart
	// back includes again the files that patterns before it exclude.
	back bool
}

// patternPart is a part of a pattern. any is "**", any number of parts of a name.
type patternPart struct {
	text      string
	wild, any bool
}

// pathPatternOf reads a pattern. "*" stays within a part of a path, "**" is any number of
// parts.
func pathPatternOf(text string) pathPattern {
	var out pathPattern
	for part := range strings.SplitSeq(text, "/") {
		out.parts = append(out.parts, patternPart{text: part, any: part == "**", wild: strings.ContainsAny(part, `*?[\`)})
	}
	return out
}

// excludesOf reads the patterns of files that are left out. "!" takes back.
func excludesOf(patterns []string) []pathPattern {
	var out []pathPattern
	for _, p := range patterns {
		p, back := strings.CutPrefix(p, "!")
		pattern := pathPatternOf(strings.TrimPrefix(path.Clean("/"+p), "/"))
		pattern.back = back
		out = append(out, pattern)
	}
	return out
}

// part reports whether p matches one part of a name.
func (m *matcher) part(ctx context.Context, p patternPart, name string) (bool, error) {
	if !p.wild {
		return p.text == name, m.spend(ctx, 1)
	}
	// path.Match reads the pattern to its end at each position of the name.
	if err := m.spend(ctx, len(p.text)*(len(name)+1)); err != nil {
		return false, err
	}
	ok, _ := path.Match(p.text, name)
	return ok, nil
}

// prefixes reports for each number of the first parts of name whether p matches these. The
// result is valid until the next call; nil is no match.
func (m *matcher) prefixes(ctx context.Context, p pathPattern, name []string) ([]bool, error) {
	if len(p.parts) > maxParts {
		return nil, nil
	}
	can, next := slices.Grow(m.can[0][:0], len(name)+1)[:len(name)+1], slices.Grow(m.can[1][:0], len(name)+1)[:len(name)+1]
	m.can = [2][]bool{can, next}
	clear(can)
	can[0] = true
	for _, part := range p.parts {
		clear(next)
		some := false
		for i := range can {
			switch {
			case part.any:
				next[i] = can[i] || i > 0 && next[i-1]
			case i > 0 && can[i-1]:
				var err error
				if next[i], err = m.part(ctx, part, name[i-1]); err != nil {
					return nil, err
				}
			}
			some = some || next[i]
		}
		if err := m.spend(ctx, len(can)); err != nil || !some {
			return nil, err
		}
		can, next = next, can
	}
	return can, nil
}

// match reports whether p matches the name.
func (m *matcher) match(ctx context.Context, p pathPattern, name string) (bool, error) {
	// Most names differ in their last part, which is cheap to compare.
	if last := p.parts[len(p.parts)-1]; !last.any {
		ok, err := m.part(ctx, last, name[strings.LastIndexByte(name, '/')+1:])
		if !ok || err != nil {
			return false, err
		}
	}
	parts := strings.Split(name, "/")
	if len(parts) > maxNameParts {
		return false, nil
	}
	can, err := m.prefixes(ctx, p, parts)
	return can != nil && can[len(parts)], err
}

// excluded reports whether the patterns leave out a name. A pattern matches everything
// below a directory too; the last one that matches decides.
func (m *matcher) excluded(ctx context.Context, patterns []pathPattern, name string) (bool, error) {
	if len(patterns) == 0 || name == "." {
		return false, nil
	}
	parts := strings.Split(name, "/")
	parts = parts[:min(len(parts), maxNameParts)]
	// The last pattern that matches decides.
	for _, p := range slices.Backward(patterns) {
		can, err := m.prefixes(ctx, p, parts)
		if err != nil {
			return false, err
		}
		if can != nil && slices.Contains(can[1:], true) {
			return !p.back, nil
		}
	}
	return false, nil
}
