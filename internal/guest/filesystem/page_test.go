package filesystem

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// tree makes files and directories, whose names end with a slash, in a new directory.
func tree(t *testing.T, names ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range names {
		path := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if strings.HasSuffix(name, "/") {
			err = errors.Join(err, os.MkdirAll(path, 0o755))
		} else {
			err = errors.Join(err, os.WriteFile(path, []byte(name), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// pages lists root in pages of limit entries and returns the names.
func pages(t *testing.T, root string, depth uint32, limit int) []string {
	t.Helper()
	f := NewFiles(NewAccounts("/"), true)
	var names []string
	after := ""
	for {
		entries, more, err := f.Page(t.Context(), PageSpec{Path: root, Depth: depth, Limit: limit, After: after})
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) > limit {
			t.Fatalf("a page has %d entries, want at most %d", len(entries), limit)
		}
		for _, e := range entries {
			names = append(names, e.Name)
			after = e.Name
		}
		if !more {
			return names
		}
		if len(entries) == 0 {
			t.Fatal("a page before the last is empty")
		}
	}
}

func TestPagesFollowEachOther(t *testing.T) {
	root := tree(t, "a", "b/", "b/1", "b/2/x", "b/2/y", "b.txt", "c", "\xff")
	if err := os.Symlink("b", filepath.Join(root, "l")); err != nil {
		t.Fatal(err)
	}
	for depth, want := range map[uint32][]string{
		1: {"a", "b", "b.txt", "c", "l", "\xff"},
		2: {"a", "b", "b/1", "b/2", "b.txt", "c", "l", "\xff"},
		9: {"a", "b", "b/1", "b/2", "b/2/x", "b/2/y", "b.txt", "c", "l", "\xff"},
	} {
		for limit := 1; limit < 12; limit++ {
			if got := pages(t, root, depth, limit); !reflect.DeepEqual(got, want) {
				t.Errorf("depth %d in pages of %d: got %q, want %q", depth, limit, got, want)
			}
		}
	}
}

func TestPageContinuesAfterItsEntryHasGone(t *testing.T) {
	root := tree(t, "a", "b/", "b/1", "b/2", "c")
	if err := os.RemoveAll(filepath.Join(root, "b")); err != nil {
		t.Fatal(err)
	}
	f := NewFiles(NewAccounts("/"), true)
	for _, after := range []string{"b/1", "b"} {
		entries, more, err := f.Page(t.Context(), PageSpec{Path: root, Depth: 3, After: after})
		if err != nil || more || len(entries) != 1 || entries[0].Name != "c" {
			t.Errorf("after %s: got %v, %v, %v; want c", after, entries, more, err)
		}
	}
}

func TestPageOfManyNames(t *testing.T) {
	root := t.TempDir()
	long := strings.Repeat("n", 200)
	var want []string
	for _, prefix := range "abcdefghij" {
		for n := range 300 {
			want = append(want, string(prefix)+string(rune('0'+n/100))+string(rune('0'+n/10%10))+string(rune('0'+n%10))+long)
		}
	}
	for _, name := range want {
		if err := os.WriteFile(filepath.Join(root, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := pages(t, root, 1, MaxPage); !reflect.DeepEqual(got, want) {
		t.Errorf("got %d names, want %d in order", len(got), len(want))
	}
	entries, more, err := NewFiles(NewAccounts("/"), true).Page(t.Context(), PageSpec{Path: root})
	if size := len(entries) * (len(long) + 4); err != nil || !more || size > maxPageBytes {
		t.Errorf("got a page of %d bytes of names, more %v, %v; want at most %d and more", size, more, err, maxPageBytes)
	}
}

func TestPageRefuses(t *testing.T) {
	root := tree(t, "file")
	f := NewFiles(NewAccounts("/"), true)
	if _, _, err := f.Page(t.Context(), PageSpec{Path: filepath.Join(root, "file")}); fault.ReasonOf(err) != "not_a_directory" {
		t.Errorf("of a file: got %v, want not_a_directory", err)
	}
	if _, _, err := f.Page(t.Context(), PageSpec{Path: filepath.Join(root, "file", "x")}); !fault.Is(err, fault.NotFound) {
		t.Errorf("below a file: got %v, want not found", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := f.Page(ctx, PageSpec{Path: root}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the call: got %v, want its cause", err)
	}
}

func TestRemovePath(t *testing.T) {
	f := NewFiles(NewAccounts("/"), true)
	root := tree(t, "keep", "d/", "d/1", "d/e/2", "empty/")
	if err := os.Symlink("../keep", filepath.Join(root, "d", "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("d", filepath.Join(root, "todir")); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(root, name) }
	if err := f.RemovePath(t.Context(), at("d"), false); fault.ReasonOf(err) != "directory_not_empty" || !fault.Is(err, fault.WrongState) {
		t.Errorf("a directory with entries: got %v, want directory_not_empty", err)
	}
	if err := f.RemovePath(t.Context(), at("none"), true); !fault.Is(err, fault.NotFound) {
		t.Errorf("a missing path: got %v, want not found", err)
	}
	if err := f.RemovePath(t.Context(), "/", true); fault.ReasonOf(err) != "invalid_path" {
		t.Errorf("the root: got %v, want invalid_path", err)
	}
	for _, name := range []string{"empty", "todir", "d"} {
		if err := f.RemovePath(t.Context(), at(name)+"/..//"+name, name == "d"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(at(name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	if read(t, at("keep")) != "keep" {
		t.Error("the target of a removed link has changed")
	}
}

func TestRemoveManyEntries(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "many")
	for n := range 3 * readBatch {
		path := filepath.Join(dir, string(rune('a'+n%7)), strings.Repeat("x", 1+n/7))
		if n/7 > 200 {
			break
		}
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := NewFiles(NewAccounts("/"), true).RemovePath(t.Context(), dir, true); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want the directory gone", err)
	}
}

func TestRenameKeepsWhatIsThere(t *testing.T) {
	f := NewFiles(NewAccounts("/"), true)
	root := tree(t, "a", "b")
	from, to := filepath.Join(root, "a"), filepath.Join(root, "b")
	if err := f.Rename(t.Context(), from, to, me, false); fault.ReasonOf(err) != "path_exists" {
		t.Errorf("got %v, want path_exists", err)
	}
	if read(t, to) != "b" || read(t, from) != "a" {
		t.Error("a refused move changed a file")
	}
	if err := f.Rename(t.Context(), from, to, me, true); err != nil || read(t, to) != "a" {
		t.Errorf("overwriting: got %v", err)
	}
}

func TestMakeDirectory(t *testing.T) {
	f := NewFiles(NewAccounts("/"), true)
	root := tree(t, "file")
	at := func(name string) string { return filepath.Join(root, name) }
	if err := f.MakeDirectory(at("x/y"), me, 0o700, false); !fault.Is(err, fault.NotFound) {
		t.Errorf("without parents: got %v, want not found", err)
	}
	for range 2 {
		if err := f.MakeDirectory(at("x/y"), me, 0o702, true); err != nil {
			t.Fatal(err)
		}
	}
	if mode(t, at("x/y")) != 0o702 || mode(t, at("x")) != 0o755 {
		t.Errorf("got the modes %o and %o, want 702 and 755", mode(t, at("x/y")), mode(t, at("x")))
	}
	if err := f.MakeDirectory(at("x"), me, 0o700, false); fault.ReasonOf(err) != "path_exists" {
		t.Errorf("an existing directory: got %v, want path_exists", err)
	}
	if err := f.MakeDirectory(at("file"), me, 0o700, true); fault.ReasonOf(err) != "not_a_directory" {
		t.Errorf("a file in the way: got %v, want not_a_directory", err)
	}
}
