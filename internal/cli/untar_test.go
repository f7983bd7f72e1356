package cli

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// stream makes a tar of the headers; a regular file's content is its name.
func stream(t *testing.T, headers ...tar.Header) *bytes.Buffer {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(h.Name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &out
}

func unpack(t *testing.T, dir string, in *bytes.Buffer) (notes string, err error) {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var noted strings.Builder
	u := &unpacking{root: root, note: func(format string, args ...any) { noted.WriteString(format) }}
	err = u.all(in)
	return noted.String(), err
}

// TestUnpackingStaysInside: an archive from a sandbox, even a hostile one, creates
// nothing outside the directory, and only files, directories and links in it.
func TestUnpackingStaysInside(t *testing.T) {
	for name, c := range map[string]struct {
		headers []tar.Header
		refused bool
	}{
		"parent":             {[]tar.Header{{Typeflag: tar.TypeReg, Name: "../evil", Mode: 0o644}}, true},
		"parent inside":      {[]tar.Header{{Typeflag: tar.TypeReg, Name: "a/../../evil", Mode: 0o644}}, true},
		"absolute":           {[]tar.Header{{Typeflag: tar.TypeReg, Name: "/evil", Mode: 0o644}}, true},
		"link out":           {[]tar.Header{{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "/etc"}}, false},
		"link up":            {[]tar.Header{{Typeflag: tar.TypeSymlink, Name: "d/l", Linkname: "../../x"}}, false},
		"through a link":     {[]tar.Header{{Typeflag: tar.TypeSymlink, Name: "l", Linkname: ".."}, {Typeflag: tar.TypeReg, Name: "l/evil", Mode: 0o644}}, false},
		"through one here":   {[]tar.Header{{Typeflag: tar.TypeReg, Name: "planted/evil", Mode: 0o644}}, true},
		"over one here":      {[]tar.Header{{Typeflag: tar.TypeReg, Name: "planted", Mode: 0o644}}, false},
		"hard link out":      {[]tar.Header{{Typeflag: tar.TypeLink, Name: "h", Linkname: "../secret"}}, true},
		"hard link via link": {[]tar.Header{{Typeflag: tar.TypeLink, Name: "h", Linkname: "planted/secret"}}, true},
		"device":             {[]tar.Header{{Typeflag: tar.TypeBlock, Name: "dev", Devmajor: 8}}, false},
		"pipe":               {[]tar.Header{{Typeflag: tar.TypeFifo, Name: "pipe"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			outside := t.TempDir()
			dir := filepath.Join(outside, "in")
			for _, err := range []error{
				os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(outside, "secret"), []byte("s"), 0o600),
				os.Symlink(outside, filepath.Join(dir, "planted")),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			if _, err := unpack(t, dir, stream(t, c.headers...)); (err != nil) != c.refused {
				t.Errorf("unpacking ended with %v, want an error: %t", err, c.refused)
			}
			entries, _ := os.ReadDir(outside)
			if len(entries) != 2 {
				t.Errorf("outside there is %v, want what was there", entries)
			}
			_ = filepath.WalkDir(dir, func(at string, e fs.DirEntry, _ error) error {
				if !e.IsDir() && !e.Type().IsRegular() && filepath.Base(at) != "planted" {
					t.Errorf("it made %s of the type %v", at, e.Type())
				}
				return nil
			})
		})
	}
}

func TestUnpackingKeepsModesAndLinks(t *testing.T) {
	dir := t.TempDir()
	_, err := unpack(t, dir, stream(t,
		tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o500},
		tar.Header{Typeflag: tar.TypeDir, Name: "./closed/", Mode: 0o555},
		tar.Header{Typeflag: tar.TypeReg, Name: "./closed/run", Mode: 0o4751},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "./link", Linkname: "closed/run"},
		tar.Header{Typeflag: tar.TypeLink, Name: "./same", Linkname: "./closed/run", Mode: 0o751},
	))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"closed": fs.ModeDir | 0o555, "closed/run": 0o751, "same": 0o751} {
		st, err := os.Lstat(filepath.Join(dir, name))
		if err != nil || st.Mode() != want {
			t.Errorf("%s has the mode %v (%v), want %v", name, st.Mode(), err, want)
		}
	}
	for _, name := range []string{"link", "same"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); string(got) != "./closed/run" {
			t.Errorf("%s holds %q (%v)", name, got, err)
		}
	}
	_ = os.Chmod(filepath.Join(dir, "closed"), 0o755) // for the clean-up
}
