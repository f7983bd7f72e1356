package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pack packs a directory.
func pack(t *testing.T, ctx context.Context, at string, w io.Writer, options Packing) (Totals, error) {
	t.Helper()
	root, err := os.OpenRoot(at)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	return Pack(ctx, root, ".", w, options)
}

func check(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// describe returns a line for each entry below a directory.
func describe(t *testing.T, root string) (lines []string) {
	t.Helper()
	check(t, filepath.WalkDir(root, func(at string, e fs.DirEntry, err error) error {
		if err != nil || at == root {
			return err
		}
		st, err := os.Lstat(at)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, at)
		line := fmt.Sprintf("%s %v", name, st.Mode())
		switch {
		case st.Mode().IsRegular():
			content, err := os.ReadFile(at)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %q %d", st.Sys().(*syscall.Stat_t).Nlink, content, st.ModTime().Unix())
		case st.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(at)
			line += " " + target
		}
		lines = append(lines, line)
		return nil
	}))
	return lines
}

func TestPackedDirectoryComesOutTheSame(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	at := func(name string) string { return filepath.Join(from, name) }
	past := time.Unix(1_500_000_000, 0)
	check(t, os.MkdirAll(at("d/empty"), 0o750), os.WriteFile(at("d/run"), []byte("#!"), 0o755), os.WriteFile(at("zero"), nil, 0o600),
		os.WriteFile(at("näme \xff"), bytes.Repeat([]byte("x"), 300_000), 0o644), os.Symlink("d/run", at("link")),
		os.Symlink("nowhere/at/all", at("broken")), os.Link(at("d/run"), at("same")), os.Chtimes(at("d/run"), past, past),
		os.WriteFile(at(strings.Repeat("l", 255)), []byte("long"), 0o644), syscall.Mkfifo(at("pipe"), 0o600))
	var out bytes.Buffer
	var left []string
	totals, err := pack(t, t.Context(), from, &out, Packing{LeftOut: func(name string) { left = append(left, name) }})
	check(t, err)
	if totals.Entries != 9 || totals.Bytes != 300_006 || !reflect.DeepEqual(left, []string{"pipe"}) {
		t.Errorf("got %+v without %v, want 9 entries of 300006 bytes without the pipe", totals, left)
	}
	_, err = unpack(t, to, &out, Unpacking{})
	check(t, err, os.Remove(at("pipe")))
	if got, want := describe(t, to), describe(t, from); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPackingEnds(t *testing.T) {
	from := t.TempDir()
	check(t, os.WriteFile(filepath.Join(from, "a"), []byte("12345"), 0o600))
	if _, err := pack(t, t.Context(), from, io.Discard, Packing{Limit: 4}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("beyond the limit: got %v, want ErrTooLarge", err)
	}
	check(t, os.Truncate(filepath.Join(from, "a"), 1<<42))
	if _, err := pack(t, t.Context(), from, io.Discard, Packing{}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("of a sparse file: got %v, want ErrTooLarge", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pack(t, ctx, from, io.Discard, Packing{}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the call: got %v, want its cause", err)
	}
	deep := from
	for range MaxDepth + 1 {
		deep = filepath.Join(deep, "d")
	}
	check(t, os.Remove(filepath.Join(from, "a")), os.MkdirAll(deep, 0o755))
	if _, err := pack(t, t.Context(), from, io.Discard, Packing{}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("of deep directories: got %v, want ErrTooLarge", err)
	}
	shrunk := t.TempDir()
	check(t, os.WriteFile(filepath.Join(shrunk, "a"), make([]byte, 1<<20), 0o600))
	w := onWrite{func() { _ = os.Truncate(filepath.Join(shrunk, "a"), 0) }}
	if _, err := pack(t, t.Context(), shrunk, w, Packing{}); !errors.Is(err, ErrIncomplete) {
		t.Errorf("of a file that becomes shorter: got %v, want ErrIncomplete", err)
	}
}

// onWrite is a writer that does something at every write.
type onWrite struct{ do func() }

func (w onWrite) Write(p []byte) (int, error) { w.do(); return len(p), nil }

// TestUnpackingIntoASwappedDirectory: a program replaces a directory by a link while an
// archive is unpacked through it. Nothing is written where the link leads.
func TestUnpackingIntoASwappedDirectory(t *testing.T) {
	outside, here := t.TempDir(), t.TempDir()
	at := func(name string) string { return filepath.Join(here, name) }
	check(t, os.Mkdir(at("d"), 0o755), os.Symlink(outside, at("other")))
	stop, swapped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(swapped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			// Exchange the two names: d is now the directory, now the link.
			_ = os.Rename(at("d"), at("x"))
			_ = os.Rename(at("other"), at("d"))
			_ = os.Rename(at("x"), at("other"))
		}
	}()
	written := 0
	for range 400 {
		in := stream(t, reg("d/evil"), dir("d/evildir"), link("d/evillink", "x"))
		if _, err := unpack(t, here, in, Unpacking{ForeignLinks: true}); err == nil {
			written++
		}
	}
	close(stop)
	<-swapped
	if entries, _ := os.ReadDir(outside); len(entries) != 0 {
		t.Errorf("the link's target has %v, want nothing", entries)
	}
	t.Logf("%d of 400 archives were written", written)
}
