package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
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

func unpack(t *testing.T, dir string, in io.Reader, options Unpacking) (left []string, err error) {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	options.LeftOut = func(name, _ string) { left = append(left, name) }
	_, err = Unpack(t.Context(), root, in, options)
	return left, err
}

func reg(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644} }

func dir(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755} }

func link(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}
}

func hard(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}
}

// TestUnpackingStaysInside: a hostile archive creates nothing outside the directory and
// reads nothing from there, under both policies for links.
func TestUnpackingStaysInside(t *testing.T) {
	deep := strings.Repeat("d/", MaxDepth) + "f"
	for name, c := range map[string]struct {
		headers []tar.Header
		strict  error // the error without ForeignLinks
		foreign error // the error with them
	}{
		"parent":              {[]tar.Header{reg("../evil")}, ErrInvalid, ErrInvalid},
		"parent inside":       {[]tar.Header{reg("a/../../evil")}, ErrInvalid, ErrInvalid},
		"absolute":            {[]tar.Header{reg("/evil")}, ErrInvalid, ErrInvalid},
		"long part":           {[]tar.Header{reg(strings.Repeat("x", 256))}, ErrInvalid, ErrInvalid},
		"deep":                {[]tar.Header{reg(deep)}, ErrInvalid, ErrInvalid},
		"link out":            {[]tar.Header{link("l", "/etc")}, nil, nil},
		"link up":             {[]tar.Header{link("d/l", "../../x")}, nil, nil},
		"through a link":      {[]tar.Header{link("l", ".."), reg("l/evil")}, nil, ErrInvalid},
		"through two links":   {[]tar.Header{dir("a/b"), link("a/b/s", "../.."), link("a/l", "b/s/../evil")}, nil, nil},
		"through one inside":  {[]tar.Header{dir("a"), link("l", "a"), reg("l/x")}, ErrInvalid, nil},
		"through one here":    {[]tar.Header{reg("planted/evil")}, ErrInvalid, ErrInvalid},
		"over one here":       {[]tar.Header{reg("planted")}, nil, nil},
		"directory here":      {[]tar.Header{dir("planted"), reg("planted/evil")}, ErrInvalid, ErrInvalid},
		"hard link out":       {[]tar.Header{hard("h", "../secret")}, ErrInvalid, ErrInvalid},
		"hard link via link":  {[]tar.Header{hard("h", "planted/secret")}, ErrInvalid, ErrInvalid},
		"hard link to a link": {[]tar.Header{reg("d1/d2/d3/a"), link("d1/d2/d3/a", "../../../x"), hard("b", "d1/d2/d3/a")}, ErrInvalid, ErrInvalid},
		"hard link over it":   {[]tar.Header{reg("a"), reg("d/a"), link("d/a", "../x"), hard("d/a", "a"), hard("b", "d/a")}, ErrInvalid, ErrInvalid},
		"two links":           {[]tar.Header{link("d1/d2/a", "../../x"), hard("b", "d1/d2/a")}, ErrInvalid, ErrInvalid},
		"hard link to old":    {[]tar.Header{hard("h", "old")}, ErrInvalid, ErrInvalid},
		"device":              {[]tar.Header{{Typeflag: tar.TypeBlock, Name: "dev", Devmajor: 8}}, nil, nil},
		"pipe":                {[]tar.Header{{Typeflag: tar.TypeFifo, Name: "pipe"}}, nil, nil},
	} {
		for _, foreign := range []bool{false, true} {
			want := c.strict
			if foreign {
				want = c.foreign
			}
			t.Run(name, func(t *testing.T) { unpackHostile(t, stream(t, c.headers...), foreign, want) })
		}
	}
}

// unpackHostile unpacks in beside a secret and looks at the results.
func unpackHostile(t *testing.T, in io.Reader, foreign bool, want error) {
	outside := t.TempDir()
	here := filepath.Join(outside, "in")
	for _, err := range []error{
		os.Mkdir(here, 0o755), os.WriteFile(filepath.Join(outside, "secret"), []byte("s"), 0o600),
		os.WriteFile(filepath.Join(here, "old"), []byte("old"), 0o600), os.Symlink(outside, filepath.Join(here, "planted")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := unpack(t, here, in, Unpacking{ForeignLinks: foreign}); !errors.Is(err, want) {
		t.Errorf("foreign links %t: got %v, want %v", foreign, err, want)
	}
	if entries, _ := os.ReadDir(outside); len(entries) != 2 {
		t.Errorf("outside there is %v, want in and secret", entries)
	}
	_ = filepath.WalkDir(here, func(at string, e fs.DirEntry, _ error) error {
		switch {
		case strings.HasPrefix(e.Name(), ".wrenn-"):
			t.Errorf("the temporary file %s remains", at)
		case e.Type()&^(fs.ModeDir|fs.ModeSymlink) != 0:
			t.Errorf("got %s of the type %v, want files, directories and links", at, e.Type())
		case e.Type()&fs.ModeSymlink != 0 && !foreign && e.Name() != "planted":
			// The text of the target counts: a link that leads nowhere yet leads outside
			// once its target exists.
			target, err := os.Readlink(at)
			rel, _ := filepath.Rel(here, filepath.Dir(at))
			if err != nil || filepath.IsAbs(target) || !filepath.IsLocal(filepath.Join(rel, target)) {
				t.Errorf("the link %s leads to %q (%v), want a place in the directory", at, target, err)
			}
			if strings.Contains(target, "s/..") {
				t.Errorf("the link %s passes another one on its way up: %s", at, target)
			}
		}
		return nil
	})
}

func TestUnpackingKeepsModesAndLinks(t *testing.T) {
	to := t.TempDir()
	_, err := unpack(t, to, stream(t,
		tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o500},
		tar.Header{Typeflag: tar.TypeDir, Name: "./closed/", Mode: 0o555},
		tar.Header{Typeflag: tar.TypeReg, Name: "./closed/run", Mode: 0o4751},
		link("./link", "closed/run"), hard("./same", "./closed/run"), hard("./same", "closed/run"),
	), Unpacking{})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"closed": fs.ModeDir | 0o555, "closed/run": 0o751, "same": 0o751} {
		st, err := os.Lstat(filepath.Join(to, name))
		if err != nil || st.Mode() != want {
			t.Errorf("%s has the mode %v (%v), want %v", name, st.Mode(), err, want)
		}
	}
	for _, name := range []string{"link", "same"} {
		if got, err := os.ReadFile(filepath.Join(to, name)); string(got) != "./closed/run" {
			t.Errorf("%s holds %q (%v)", name, got, err)
		}
	}
	if names, _ := os.ReadDir(to); len(names) != 3 {
		t.Errorf("got %v, want closed, link and same", names)
	}
	_ = os.Chmod(filepath.Join(to, "closed"), 0o755) // for the clean-up
}

// TestCutArchivesAreIncomplete cuts an archive at every place: no part of it is taken
// for a whole one.
func TestCutArchivesAreIncomplete(t *testing.T) {
	whole := stream(t, dir("d"), reg("d/a"), reg("d/b")).Bytes()
	for _, size := range []int{0, 1, 511, 512, 1024, 1025, 1536, 2048, 2560, len(whole) - 1024, len(whole) - 513} {
		if _, err := unpack(t, t.TempDir(), bytes.NewReader(whole[:size]), Unpacking{}); !errors.Is(err, ErrIncomplete) {
			t.Errorf("%d of %d bytes: got %v, want ErrIncomplete", size, len(whole), err)
		}
	}
	for _, padding := range []int{0, 512, 10240} {
		if _, err := unpack(t, t.TempDir(), bytes.NewReader(append(bytes.Clone(whole), make([]byte, padding)...)), Unpacking{}); err != nil {
			t.Errorf("with %d bytes of padding: %v", padding, err)
		}
	}
	if _, err := unpack(t, t.TempDir(), bytes.NewReader(append(bytes.Clone(whole), make([]byte, 2<<20)...)), Unpacking{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("with 2 MiB after the end: got %v, want ErrInvalid", err)
	}
	if _, err := unpack(t, t.TempDir(), strings.NewReader(strings.Repeat("no tar ", 1000)), Unpacking{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("of no tar: got %v, want ErrInvalid", err)
	}
	broke := errors.New("the connection broke")
	if _, err := unpack(t, t.TempDir(), io.MultiReader(bytes.NewReader(whole[:1000]), failing{broke}), Unpacking{}); !errors.Is(err, broke) {
		t.Errorf("of a stream that fails: got %v, want its error", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestSizesAreCountedBeforeTheyAreWritten: an entry that claims to be too large costs
// no disk, also as a sparse file, whose archive is small.
func TestSizesAreCountedBeforeTheyAreWritten(t *testing.T) {
	var large bytes.Buffer
	w := tar.NewWriter(&large)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "large", Size: 1 << 50, Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	// As GNU tar writes a file with a hole of 1 PiB (PAX format 1.0).
	sparse := bytes.NewBuffer(sparseArchive(t, 1<<50))
	for name, in := range map[string]*bytes.Buffer{"large": &large, "sparse": sparse} {
		to := t.TempDir()
		if _, err := unpack(t, to, in, Unpacking{}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: got %v, want ErrTooLarge", name, err)
		}
		if entries, _ := os.ReadDir(to); len(entries) != 0 {
			t.Errorf("%s: got %v, want nothing", name, entries)
		}
	}
	if _, err := unpack(t, t.TempDir(), stream(t, reg("abc"), reg("def")), Unpacking{Limit: 5}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("beyond the limit: got %v, want ErrTooLarge", err)
	}
}

// TestRoomIsAskedForWrittenBytes: the room that an archive takes counts, also that of
// holes and of entries without content, before it is taken.
func TestRoomIsAskedForWrittenBytes(t *testing.T) {
	full := errors.New("no room")
	for name, c := range map[string]struct {
		in   *bytes.Buffer
		room int64
		left int
	}{
		"content":     {stream(t, reg("abc"), reg("def")), entryBytes + 2, 0},
		"holes":       {bytes.NewBuffer(sparseArchive(t, 4<<20)), 1 << 20, 0},
		"directories": {stream(t, dir("a"), dir("b"), dir("c")), 2 * entryBytes, 2},
	} {
		to := t.TempDir()
		_, err := unpack(t, to, c.in, Unpacking{Room: func(n int64) error {
			if c.room -= n; c.room < 0 {
				return full
			}
			return nil
		}})
		if !errors.Is(err, full) {
			t.Errorf("%s: got %v, want the error of Room", name, err)
		}
		if entries, _ := os.ReadDir(to); len(entries) != c.left {
			t.Errorf("%s: got %v, want %d entries", name, entries, c.left)
		}
	}
	if _, err := unpack(t, t.TempDir(), stream(t, reg("abc")), Unpacking{Room: func(int64) error { return nil }}); err != nil {
		t.Errorf("with room: got %v", err)
	}
}

// sparseArchive returns an archive with a sparse file that is a hole of size bytes. The
// package tar reads such files and does not write them.
func sparseArchive(t *testing.T, size int64) []byte {
	t.Helper()
	content := "0\n" + strings.Repeat("\x00", 510) // the map of its data: nothing
	var records string
	for _, r := range []string{"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=sparse", fmt.Sprintf("GNU.sparse.realsize=%d", size)} {
		records += fmt.Sprintf("%d %s\n", len(r)+len("00 ")+1, r)
	}
	var out bytes.Buffer
	for _, e := range []struct {
		h       tar.Header
		content string
	}{
		{tar.Header{Typeflag: tar.TypeReg, Name: "pax", Size: int64(len(records)), Mode: 0o600, Format: tar.FormatUSTAR}, records},
		{tar.Header{Typeflag: tar.TypeReg, Name: "x", Size: int64(len(content)), Mode: 0o600, Format: tar.FormatUSTAR}, content},
	} {
		w := tar.NewWriter(&out)
		at := out.Len()
		if err := w.WriteHeader(&e.h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if e.h.Name == "pax" {
			header := out.Bytes()[at : at+512]
			header[156] = tar.TypeXHeader
			sum := 0
			copy(header[148:156], "        ")
			for _, b := range header {
				sum += int(b)
			}
			copy(header[148:156], fmt.Sprintf("%06o\x00 ", sum))
		}
	}
	return append(out.Bytes(), make([]byte, 1024)...)
}
