package templates

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Bounds of the sources of one COPY.
const (
	// maxRoots is the most files and directories that the sources name.
	maxRoots = 10_000
	// maxMatches is the most comparisons of a name with a pattern.
	maxMatches = 10_000_000
	// maxPattern is the longest source with a pattern in bytes.
	maxPattern = 4096
)

// root is a source of a COPY: an entry that a source of the instruction names.
type root struct {
	name string // "." is everything
	dir  bool
}

// selection are the sources of a COPY, each once.
type selection struct {
	copy  *plan.Copy
	roots []root
	// places are the positions of the roots, by name.
	places map[string]int
	// lengths are the lengths of their names.
	lengths  map[int]bool
	excludes []pathPattern
	matcher  *matcher
}

func newSelection(c *plan.Copy) *selection {
	return &selection{copy: c, places: map[string]int{}, lengths: map[int]bool{}, excludes: excludesOf(c.Exclude), matcher: newMatcher()}
}

// parent returns the directory of a clean relative name.
func parent(name string) string {
	if i := strings.LastIndexByte(name, '/'); i > 0 {
		return name[:i]
	}
	return "."
}

// add adds roots, and refuses too many.
func (s *selection) add(roots ...root) error {
	for _, r := range roots {
		if _, known := s.places[r.name]; known {
			continue
		}
		if len(s.roots) == maxRoots {
			return tooMany("the sources of a COPY name more than %d files and directories; copy a directory instead", maxRoots)
		}
		s.places[r.name], s.lengths[len(r.name)] = len(s.roots), true
		s.roots = append(s.roots, r)
	}
	return nil
}

// single reports whether the selection is one entry, which is no directory.
func (s *selection) single() bool { return len(s.roots) == 1 && !s.roots[0].dir && !s.copy.Parents }

// targets returns the names below the destination that an entry gets, in the order of the
// sources.
func (s *selection) targets(ctx context.Context, name string) ([]string, error) {
	var at []int
	for p := name; ; p = parent(p) {
		if s.lengths[len(p)] { // comparisons of long names take time
			if i, ok := s.places[p]; ok {
				at = append(at, i)
			}
		}
		if p == "." {
			break
		}
	}
	slices.Sort(at)
	var out []string
	for _, i := range at {
		target, ok, err := s.target(ctx, s.roots[i], name)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, target)
		}
	}
	return out, nil
}

// selection returns the sources of c. The work is bounded by maxMatches, also for the
// patterns that leave out files, and by the matcher's bound.
func (idx *index) selection(ctx context.Context, c *plan.Copy) (*selection, error) {
	s := newSelection(c)
	left := maxMatches - len(c.Exclude)*len(idx.files)
	for _, source := range c.Sources {
		found, work, err := idx.match(ctx, s.matcher, source, left)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fault.New(fault.NotFound, "source_not_found", "no file matches %.256q", source)
		}
		left -= work
		if err := s.add(found...); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// match returns the entries that a source names, which may be a pattern, and the number of
// comparisons, at most left. A source that leads outside means the root, as in Docker.
func (idx *index) match(ctx context.Context, m *matcher, source string, left int) ([]root, int, error) {
	name := strings.TrimPrefix(path.Clean("/"+source), "/")
	if name == "" {
		return []root{{".", true}}, 0, nil
	}
	var out []root
	i, exact := slices.BinarySearchFunc(idx.files, name, func(f file, name string) int { return strings.Compare(f.name, name) })
	if exact {
		out = append(out, root{name, idx.files[i].typ == tar.TypeDir})
	}
	wild := strings.IndexAny(name, "*?[\\")
	if wild < 0 {
		return out, 0, nil
	}
	// Names with the literal begin of the pattern are neighbours.
	first, _ := slices.BinarySearchFunc(idx.files, name[:wild], func(f file, name string) int { return strings.Compare(f.name, name) })
	pattern := pathPatternOf(name)
	for i, f := range idx.files[first:] {
		if !strings.HasPrefix(f.name, name[:wild]) {
			return out, i, nil
		}
		if i >= left || len(name) > maxPattern {
			return nil, i, tooMany("the patterns of a COPY are too long, or have to be compared with more than %d names; copy a directory instead", maxMatches)
		}
		ok, err := m.match(ctx, pattern, f.name)
		if err != nil {
			return nil, i, err
		}
		if ok && f.name != name {
			out = append(out, root{f.name, f.typ == tar.TypeDir})
		}
		if len(out) > maxRoots {
			break
		}
	}
	return out, len(idx.files) - first, nil
}

// target returns the name below the destination that an entry gets from r, and false if r
// does not have it. The patterns that leave out files are about the name below the
// destination, or about the name in the source.
func (s *selection) target(ctx context.Context, r root, name string) (string, bool, error) {
	out, ok := r.placed(name, s.copy)
	if !ok {
		return "", false, nil
	}
	for _, n := range []string{name, out} {
		if no, err := s.matcher.excluded(ctx, s.excludes, n); no || err != nil {
			return "", false, err
		}
	}
	return out, true, nil
}

// placed is target without the patterns.
func (r root) placed(name string, c *plan.Copy) (string, bool) {
	switch {
	case r.name == ".":
		return name, true
	case c.Parents && (name == r.name || strings.HasPrefix(name, r.name+"/")):
		return name, true
	case name == r.name && r.dir:
		return ".", true
	case name == r.name:
		return path.Base(name), true
	case r.dir && strings.HasPrefix(name, r.name+"/"):
		return name[len(r.name)+1:], true
	}
	return "", false
}

// takes calls fn for each entry that s takes, with its name below the destination. Together
// they are at most maxContextEntries.
func (s *selection) takes(ctx context.Context, idx *index, fn func(f file, target string)) error {
	n := 0
	for i, f := range idx.files {
		if err := checkEvery(ctx, i); err != nil {
			return err
		}
		targets, err := s.targets(ctx, f.name)
		if err != nil {
			return err
		}
		for _, target := range targets {
			if n++; n > maxContextEntries {
				return tooMany("a COPY makes more than %d files", maxContextEntries)
			}
			fn(f, target)
		}
	}
	return nil
}

// sourceKey returns the digest of the files that a step takes; empty if it takes none.
func (b *builder) sourceKey(ctx context.Context, step plan.Step) (string, error) {
	if step.Copy != nil {
		return b.copyKey(ctx, step.Copy)
	}
	if step.Run == nil || len(step.Run.Binds) == 0 {
		return "", nil
	}
	var keys []string
	for _, c := range step.Run.Binds {
		key, err := b.copyKey(ctx, &c)
		if err != nil {
			return "", err
		}
		keys = append(keys, key)
	}
	return digest(keys), nil
}

// copyKey returns the digest of the files that c takes.
func (b *builder) copyKey(ctx context.Context, c *plan.Copy) (string, error) {
	switch {
	case c.Stage > 0:
		return b.stages[c.Stage-1].key(), nil
	case c.Base != nil:
		base, err := b.baseOf(ctx, *c.Base)
		return base.key, err
	case len(c.Sources) == 0:
		return "", nil
	}
	idx, err := b.index(ctx, c.Context)
	if err != nil {
		return "", err
	}
	s, err := idx.selection(ctx, c)
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	err = s.takes(ctx, idx, func(f file, target string) {
		_, _ = io.WriteString(hash, digest(target, f.typ, f.mode, f.link, f.sum))
	})
	return hex.EncodeToString(hash.Sum(nil)), err
}
