package templates

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// smallBlobs returns an empty directory of uploads with small bounds.
func smallBlobs(t *testing.T) *blobs {
	t.Helper()
	b, err := openBlobs(filepath.Join(t.TempDir(), "uploads"))
	if err != nil {
		t.Fatal(err)
	}
	b.max, b.room = 100, 250
	return b
}

func putBlob(t *testing.T, b *blobs, key string, size int) error {
	t.Helper()
	return b.put(context.Background(), BlobKey{Key: key}, strings.NewReader(strings.Repeat("x", size)))
}

func wantBlob(t *testing.T, b *blobs, key string, want bool) {
	t.Helper()
	got, err := b.has(BlobKey{Key: key})
	if err != nil || got != want {
		t.Errorf("has %s: %v, %v, want %v", key, got, err, want)
	}
}

// age makes an upload look as if it was last used before now.
func age(t *testing.T, b *blobs, key string, d time.Duration) {
	t.Helper()
	path, err := b.path(BlobKey{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-d)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
}

func TestBlobBounds(t *testing.T) {
	b := smallBlobs(t)
	if err := putBlob(t, b, "big", 101); fault.ReasonOf(err) != "upload_too_large" {
		t.Errorf("an upload above the bound: %v", err)
	}
	wantBlob(t, b, "big", false)
	for _, key := range []string{"a", "b"} {
		if err := putBlob(t, b, key, 100); err != nil {
			t.Fatal(err)
		}
	}
	age(t, b, "b", time.Hour)
	age(t, b, "a", time.Minute)
	if err := putBlob(t, b, "c", 100); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, b, "b", false) // the one used least recently
	wantBlob(t, b, "a", true)
	wantBlob(t, b, "c", true)
	if b.uploaded != 0 {
		t.Errorf("%d bytes are counted as under way, want none", b.uploaded)
	}
	left, err := filepath.Glob(filepath.Join(b.dir, ".upload-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

func TestBlobsExpire(t *testing.T) {
	b := smallBlobs(t)
	for _, key := range []string{"old", "new"} {
		if err := putBlob(t, b, key, 10); err != nil {
			t.Fatal(err)
		}
	}
	age(t, b, "old", blobAge+time.Minute)
	if err := b.expire(); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, b, "old", false)
	wantBlob(t, b, "new", true)
}

func TestInterruptedUploadLeavesNothing(t *testing.T) {
	b := smallBlobs(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := b.put(ctx, BlobKey{Key: "x"}, strings.NewReader("abc")); err == nil {
		t.Error("an upload whose context has ended: no error")
	}
	crashed, then := filepath.Join(b.dir, ".upload-of-a-crash"), time.Now().Add(-2*abandonedAge)
	if err := errors.Join(os.WriteFile(crashed, []byte("x"), 0o600), os.Chtimes(crashed, then, then)); err != nil {
		t.Fatal(err)
	}
	b, err := openBlobs(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(b.dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("the directory has %v, want nothing", entries)
	}
}

// TestUploadOfAnotherServerIsKept: a server that starts, or removes old uploads, leaves the
// uploads that another one receives in the same directory.
func TestUploadOfAnotherServerIsKept(t *testing.T) {
	b := smallBlobs(t)
	key := BlobKey{Key: "slow"}
	read, write := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- b.put(context.Background(), key, read) }()
	if _, err := write.Write([]byte("one")); err != nil {
		t.Fatal(err)
	}
	if _, err := write.Write([]byte("two")); err != nil { // the first part is in the file now
		t.Fatal(err)
	}
	under, err := filepath.Glob(filepath.Join(b.dir, uploadPrefix+"*"))
	if err != nil || len(under) != 1 {
		t.Fatalf("%v, %v, want one upload under way", under, err)
	}
	then := time.Now().Add(-2 * abandonedAge)
	if err := os.Chtimes(under[0], then, then); err != nil {
		t.Fatal(err)
	}
	other, err := openBlobs(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.expire(); err != nil {
		t.Fatal(err)
	}
	if err := write.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("the upload beside the start of another server: %v", err)
	}
	wantBlob(t, other, "slow", true)
}

func TestTemplateOwnsItsBlobs(t *testing.T) {
	b := smallBlobs(t)
	if err := b.put(context.Background(), BlobKey{Template: "t1", Key: "k"}, strings.NewReader("one")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.open("t2", "k"); fault.ReasonOf(err) != "upload_not_found" {
		t.Errorf("the upload of another template: %v, want upload_not_found", err)
	}
	f, err := b.open("t1", "k")
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	b.removeTemplate("t1")
	if _, err := b.open("t1", "k"); err == nil {
		t.Error("the upload of a deleted template is still there")
	}
}

func TestMatchPath(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"*.py", "a.py", true}, {"*.py", "d/a.py", false}, {"**/*.py", "d/e/a.py", true}, {"**/*.py", "a.py", true},
		{"d/**", "d/e/f", true}, {"d/*", "d/e", true}, {"d/*", "d/e/f", false}, {"a?c", "abc", true}, {"[", "[", false},
		{strings.Repeat("**/", 100) + "x", "a/x", false},
	} {
		if got, err := newMatcher().match(context.Background(), pathPatternOf(tt.pattern), tt.name); got != tt.want || err != nil {
			t.Errorf("match of %.20q and %q: got %v, %v, want %v", tt.pattern, tt.name, got, err, tt.want)
		}
	}
	for _, tt := range []struct {
		patterns []string
		name     string
		want     bool
	}{
		{[]string{"*.md"}, "a.md", true}, {[]string{"*.md", "!keep.md"}, "keep.md", false}, {[]string{"dir"}, "dir/x/y", true},
		{[]string{"dir", "!dir/x"}, "dir/x/y", false}, {nil, "a", false}, {[]string{"!dir/x", "dir"}, "dir/x/y", true}, {[]string{"x/**"}, "x", true},
		{[]string{"**"}, ".", false}, {[]string{"**/y"}, "a/x/y/z", true}, {[]string{"*/b/?"}, "a/b/c/d", true}, {[]string{"b"}, "a/b", false}, {[]string{"."}, "a", false},
	} {
		if got, err := newMatcher().excluded(context.Background(), excludesOf(tt.patterns), tt.name); got != tt.want || err != nil {
			t.Errorf("excluded(%q, %q): got %v, %v, want %v", tt.patterns, tt.name, got, err, tt.want)
		}
	}
}

func TestExpandSimple(t *testing.T) {
	env := func(name string) string { return map[string]string{"A": "1", "B_2": "two"}[name] }
	for in, want := range map[string]string{
		"$A": "1", "${A}x": "1x", "$B_2-$A": "two-1", `\$A`: "$A", `\\$A`: `\1`, "$": "$", "$1": "$1", "${": "${", "${A": "${A", "$C.": ".", "a$A$A": "a11", `\n`: `\n`,
	} {
		if got := expandSimple(in, env); got != want {
			t.Errorf("expandSimple(%q): got %q, want %q", in, got, want)
		}
	}
}
