package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestEverythingInAnArchiveIsCounted: no entry is free, and neither are directories that
// an entry only implies.
func TestEverythingInAnArchiveIsCounted(t *testing.T) {
	const most = 20
	deep := strings.Repeat("d/", most-1)
	many := func(h tar.Header, n int) (all []tar.Header) {
		for range n {
			all = append(all, h)
		}
		return all
	}
	global := tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "c"}}
	for name, c := range map[string]struct {
		headers []tar.Header
		want    error
	}{
		"files":                {many(reg("f"), most), nil},
		"too many files":       {many(reg("f"), most+1), ErrTooLarge},
		"parents":              {[]tar.Header{reg(deep + "f")}, nil},
		"too many parents":     {[]tar.Header{reg(deep + "d/f")}, ErrTooLarge},
		"parents of a second":  {[]tar.Header{reg(deep + "f"), reg("e/f")}, ErrTooLarge},
		"itself":               {many(dir("./"), most), nil},
		"itself too often":     {many(dir("./"), most+1), ErrTooLarge},
		"global headers":       {many(global, most), nil},
		"many global headers":  {many(global, most+1), ErrTooLarge},
		"names of directories": {[]tar.Header{dir(strings.Repeat("n", 200)), dir(strings.Repeat("m", 200))}, ErrTooLarge},
	} {
		to := t.TempDir()
		_, err := unpack(t, to, stream(t, c.headers...), Unpacking{limits: limits{entries: most, names: 300}})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
		made := -1
		_ = filepath.WalkDir(to, func(string, fs.DirEntry, error) error { made++; return nil })
		if made > most+1 {
			t.Errorf("%s: made %d files and directories, want at most %d", name, made, most+1)
		}
	}
}

// TestRecordsOfDirectoriesAreNotKept: a directory may have 1 MB of PAX records, also with
// its name among them. None of that stays in memory.
func TestRecordsOfDirectoriesAreNotKept(t *testing.T) {
	const dirs, record = 48, 1_000_000
	in, out := io.Pipe()
	defer in.Close()
	go func() {
		w := tar.NewWriter(out)
		padding := strings.Repeat("z", record)
		for i := range dirs {
			h := tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("ä%d/", i), Mode: 0o755, PAXRecords: map[string]string{"X.y": padding}}
			if err := w.WriteHeader(&h); err != nil {
				_ = out.CloseWithError(err)
				return
			}
		}
		_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeFifo, Name: "last"})
		_ = out.CloseWithError(w.Close())
	}()
	root, err := os.OpenRoot(t.TempDir())
	check(t, err)
	defer root.Close()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	_, err = Unpack(t.Context(), root, in, Unpacking{LeftOut: func(string, string) {
		runtime.GC()
		runtime.ReadMemStats(&after)
	}})
	check(t, err)
	// A few records are in flight between the two sides.
	if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); after.HeapAlloc == 0 || kept > dirs*record/4 {
		t.Errorf("%d directories with records of %d bytes: %d bytes are kept", dirs, record, kept)
	}
}

// TestUnpackingAppliesTheUmask: the sender does not decide who may write the files of
// the receiver, and a directory that was there keeps its mode.
func TestUnpackingAppliesTheUmask(t *testing.T) {
	to := t.TempDir()
	check(t, os.Mkdir(filepath.Join(to, "private"), 0o700))
	open := func(typ byte, name string) tar.Header { return tar.Header{Typeflag: typ, Name: name, Mode: 0o6777} }
	_, err := unpack(t, to, stream(t, open(tar.TypeDir, "private"), open(tar.TypeReg, "private/run"), open(tar.TypeDir, "new")),
		Unpacking{Umask: 0o027, KeepDirs: true})
	check(t, err)
	for name, want := range map[string]fs.FileMode{"private": 0o700, "private/run": 0o750, "new": 0o750} {
		st, err := os.Lstat(filepath.Join(to, name))
		check(t, err)
		if st.Mode()&^fs.ModeDir != want {
			t.Errorf("%s has the mode %v, want %v", name, st.Mode(), want)
		}
	}
}
