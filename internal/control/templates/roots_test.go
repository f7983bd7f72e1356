package templates

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// indexOf returns the index of an archive with the names; those that end with "/" are
// directories.
func indexOf(t *testing.T, names ...string) *index {
	t.Helper()
	byName := map[string]file{}
	for _, n := range names {
		f := file{name: strings.TrimSuffix(n, "/"), typ: tar.TypeReg}
		if f.name != n {
			f.typ = tar.TypeDir
		}
		byName[f.name] = f
	}
	files, err := withDirectories(context.Background(), byName)
	if err != nil {
		t.Fatal(err)
	}
	return &index{files: files}
}

// TestSelection compares the names that the sources of a COPY give to files.
func TestSelection(t *testing.T) {
	idx := indexOf(t, "a", "b", "d/", "d/x", "d/e/y", "d-x", "a*")
	for name, tt := range map[string]struct {
		c    plan.Copy
		want string
	}{
		"all":            {plan.Copy{Sources: []string{"."}}, "a=a a*=a* b=b d=d d-x=d-x d/e=d/e d/e/y=d/e/y d/x=d/x"},
		"outside":        {plan.Copy{Sources: []string{"../.."}, Exclude: []string{"d", "a*"}}, "b=b d-x=d-x"},
		"file":           {plan.Copy{Sources: []string{"d/x"}}, "d/x=x"},
		"directory":      {plan.Copy{Sources: []string{"d"}}, "d=. d/e=e d/e/y=e/y d/x=x"},
		"parents":        {plan.Copy{Sources: []string{"d/e"}, Parents: true}, "d/e=d/e d/e/y=d/e/y"},
		"pattern":        {plan.Copy{Sources: []string{"d*"}}, "d=. d-x=d-x d/e=e d/e/y=e/y d/x=x"},
		"two":            {plan.Copy{Sources: []string{"d/e", "d"}}, "d=. d/e=.+e d/e/y=y+e/y d/x=x"},
		"twice":          {plan.Copy{Sources: []string{"a", "./a", "/a", "[a]"}}, "a=a"},
		"literal":        {plan.Copy{Sources: []string{"a*"}}, "a=a a*=a*"},
		"everything":     {plan.Copy{Sources: []string{"**/y"}}, "d/e/y=y"},
		"escaped":        {plan.Copy{Sources: []string{"a\\*"}}, "a*=a*"},
		"pattern inside": {plan.Copy{Sources: []string{"d/*"}}, "d/e=. d/e/y=y d/x=x"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := idx.selection(context.Background(), &tt.c)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range idx.files {
				targets, err := s.targets(context.Background(), f.name)
				if err != nil {
					t.Fatal(err)
				}
				if len(targets) > 0 {
					got = append(got, f.name+"="+strings.Join(targets, "+"))
				}
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("got %q, want %q", strings.Join(got, " "), tt.want)
			}
		})
	}
}

// TestImpliedDirectoriesAreBounded indexes long names without their directories.
func TestImpliedDirectoriesAreBounded(t *testing.T) {
	byName := map[string]file{}
	for i := range 300 {
		f := file{name: fmt.Sprintf("%d", i) + strings.Repeat("/d", 2000)}
		byName[f.name] = f
	}
	if _, err := withDirectories(context.Background(), byName); fault.ReasonOf(err) != "archive_too_large" {
		t.Errorf("600,000 directories: %v, want archive_too_large", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := withDirectories(ctx, map[string]file{"a/b": {name: "a/b"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v, want canceled", err)
	}
	files, err := withDirectories(context.Background(), map[string]file{"a/b/c": {name: "a/b/c"}, "a": {name: "a"}})
	if err != nil || len(files) != 3 || files[1].name != "a/b" || files[1].typ != tar.TypeDir {
		t.Errorf("got %v, %v, want a, a/b and a/b/c", files, err)
	}
}

// TestSourcesAreBounded selects too much.
func TestSourcesAreBounded(t *testing.T) {
	many := &index{}
	for i := range maxContextEntries {
		many.files = append(many.files, file{name: fmt.Sprintf("%07d", i)})
	}
	deep := &index{}
	for i := 1; i < 2000; i++ {
		for _, dir := range []string{"d", "e"} {
			deep.files = append(deep.files, file{name: dir + strings.Repeat("/"+dir, i), typ: tar.TypeDir})
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for name, tt := range map[string]struct {
		ctx  context.Context
		idx  *index
		c    plan.Copy
		want string
	}{
		"roots":    {context.Background(), many, plan.Copy{Sources: []string{"**", "**"}}, "archive_too_large"},
		"work":     {context.Background(), many, plan.Copy{Sources: slices.Repeat([]string{"*x"}, plan.MaxSources)}, "source_not_found"},
		"patterns": {context.Background(), many, plan.Copy{Sources: append(slices.Repeat([]string{"**/0000001"}, 100), "x")}, "archive_too_large"},
		"excludes": {context.Background(), many, plan.Copy{Sources: []string{"*1"}, Exclude: slices.Repeat([]string{"x"}, plan.MaxExcludes)}, "archive_too_large"},
		"long":     {context.Background(), many, plan.Copy{Sources: []string{"*" + strings.Repeat("x", maxPattern)}}, "archive_too_large"},
		"places":   {context.Background(), deep, plan.Copy{Sources: []string{"**"}}, "archive_too_large"},
		"canceled": {ctx, many, plan.Copy{Sources: []string{"*1"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := tt.idx.selection(tt.ctx, &tt.c)
			if err == nil {
				err = s.takes(tt.ctx, tt.idx, func(file, string) {})
			}
			if tt.want == "" && !errors.Is(err, context.Canceled) || fault.ReasonOf(err) != tt.want && tt.want != "" {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestMatchWorkIsBounded matches names with patterns that take much work each, and checks the
// work that was counted.
func TestMatchWorkIsBounded(t *testing.T) {
	deep := "d" + strings.Repeat("/"+strings.Repeat("a", 14), maxNameParts-1)
	var excludes []string
	for i := range plan.MaxExcludes {
		excludes = append(excludes, fmt.Sprintf("x%d/**", i))
	}
	background := context.Background()
	m := newMatcher()
	if out, err := m.excluded(background, excludesOf(excludes), deep); out || err != nil {
		t.Errorf("a deep name: got %v, %v, want that it stays", out, err)
	}
	if work := maxMatchWork - m.left; work > 2*plan.MaxExcludes*(maxNameParts+1) {
		t.Errorf("patterns of which the first part differs took %d of work, want them to cost the parts of the name once", work)
	}
	heavy := "**/*" + strings.Repeat("a", 2000) + "b"
	idx := &index{files: []file{{name: deep}}}
	for name, c := range map[string]plan.Copy{
		"exclude": {Sources: []string{"."}, Exclude: slices.Repeat([]string{heavy + strings.Repeat("/**/*?[a-c]"+strings.Repeat("a", 100), 20)}, plan.MaxExcludes)},
		"source":  {Sources: []string{heavy + "/**"}},
	} {
		s := newSelection(&c)
		s.matcher.left, s.matcher.next = 1<<20, 1<<20
		err := s.add(root{".", true})
		if err == nil && name == "exclude" {
			_, err = s.targets(background, deep)
		} else if err == nil {
			_, _, err = idx.match(background, s.matcher, c.Sources[0], maxMatches)
		}
		if fault.ReasonOf(err) != "archive_too_large" {
			t.Errorf("%s: %v with %d of work left, want archive_too_large", name, err, s.matcher.left)
		}
	}
	// Nobody waits for the next name.
	ctx, cancel := context.WithCancel(background)
	cancel()
	if _, err := newMatcher().excluded(ctx, excludesOf(excludes), "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v, want canceled", err)
	}
	m = newMatcher()
	if err := m.spend(background, 1); err != nil {
		t.Fatal(err)
	}
	if err := m.spend(ctx, matchPause); err != nil {
		t.Errorf("before the next check of the context: %v", err)
	}
	if err := m.spend(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("after much work: %v, want canceled", err)
	}
}

// TestNamesAreBounded checks the bounds of names in archives.
func TestNamesAreBounded(t *testing.T) {
	long := strings.Repeat("x", maxNamePart)
	for name, want := range map[string]bool{
		long: true, long + "x": false, "a/" + long + "x/b": false, "a" + strings.Repeat("/a", maxNameParts-1): true, "a" + strings.Repeat("/a", maxNameParts): false,
		"/./a//b/": true, "../a": false, strings.Repeat(long+"/", maxContextName/len(long)) + "xx": false,
	} {
		if _, ok := cleanName(name); ok != want {
			t.Errorf("cleanName(%.40q, %d bytes): got %v, want %v", name, len(name), ok, want)
		}
	}
}

// TestKeyFollowsContent checks that names and contents change the key of a COPY.
func TestKeyFollowsContent(t *testing.T) {
	b := &builder{indexes: map[string]*index{}}
	key := func(idx *index, sources ...string) string {
		t.Helper()
		b.indexes["k"] = idx
		out, err := b.sourceKey(context.Background(), plan.Step{Copy: &plan.Copy{Context: "k", Sources: sources}})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	a, c := indexOf(t, "a", "d/x"), indexOf(t, "a", "d/x")
	if key(a, "d") != key(c, "d") {
		t.Error("equal files have different keys")
	}
	c.files[2].sum = sha256.Sum256([]byte("x"))
	if key(a, "d") == key(c, "d") {
		t.Error("different files have the same key")
	}
	if key(a, "a") != key(c, "a") {
		t.Error("a file that is not copied changes the key")
	}
}
