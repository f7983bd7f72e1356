package filesystem

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

var me = Owner{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}

func newFiles() *Files { return NewFiles(NewAccounts("/"), true) }

func write(t *testing.T, path, content string) {
	t.Helper()
	if _, err := newFiles().Write(Write{Path: path, Owner: me}, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	c, err := newFiles().Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Mode().Perm()
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := newFiles().List(dir, 10)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, strings.TrimPrefix(e.Path, dir+"/"))
	}
	return out
}

func TestWriteMakesParentsAndKeepsModes(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a/b/c")
	write(t, path, "one")
	if got := mode(t, path); got != 0o644 {
		t.Errorf("new file has mode %o", got)
	}
	if got := mode(t, filepath.Dir(path)); got != 0o755 {
		t.Errorf("new parent has mode %o", got)
	}
	if err := os.Chmod(path, 0o750); err != nil {
		t.Fatal(err)
	}
	write(t, path, "two")
	if got := mode(t, path); got != 0o750 || read(t, path) != "two" {
		t.Errorf("replaced file has mode %o, content %q", got, read(t, path))
	}
	wanted := uint32(0o4711)
	if _, err := newFiles().Write(Write{Path: path, Owner: me, Mode: &wanted}, strings.NewReader("")); err != nil {
		t.Fatal(err)
	}
	if got := mode(t, path); got != 0o711 {
		t.Errorf("mode given: got %o", got)
	}
}

func TestFailedWriteChangesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	write(t, path, "old")
	broken := io.MultiReader(strings.NewReader("half of the new"), iotest.ErrReader(errors.New("broken")))
	if _, err := newFiles().Write(Write{Path: path, Owner: me}, broken); err == nil {
		t.Fatal("no error")
	}
	if got := read(t, path); got != "old" {
		t.Errorf("content is %q", got)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"f"}) {
		t.Errorf("left behind: %v", got)
	}
}

func TestWriteFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "real/file"), "old")
	for link, to := range map[string]string{"link": "real/file", "chain": "link", "dangling": "real/new", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "chain"), "new")
	write(t, filepath.Join(dir, "dangling"), "made")
	if read(t, filepath.Join(dir, "real/file")) != "new" || read(t, filepath.Join(dir, "real/new")) != "made" {
		t.Error("the targets were not written")
	}
	if fi, err := os.Lstat(filepath.Join(dir, "chain")); err != nil || fi.Mode()&os.ModeSymlink == 0 {
		t.Error("the link was replaced")
	}
	if _, err := newFiles().Write(Write{Path: filepath.Join(dir, "loop"), Owner: me}, strings.NewReader("")); !fault.Is(err, fault.Invalid) {
		t.Errorf("loop: %v", err)
	}
}

func TestWrongKindsOfFile(t *testing.T) {
	dir := t.TempDir()
	pipe, file := filepath.Join(dir, "pipe"), filepath.Join(dir, "file")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, file, "")
	for path, reason := range map[string]string{dir: ReasonIsDirectory, pipe: "not_a_file", "/dev/null": "not_a_file"} {
		if _, err := newFiles().Write(Write{Path: path, Owner: me}, strings.NewReader("x")); fault.ReasonOf(err) != reason {
			t.Errorf("write %s: %v, want %s", path, err, reason)
		}
		if _, err := newFiles().Open(path); fault.ReasonOf(err) != reason {
			t.Errorf("read %s: %v, want %s", path, err, reason)
		}
	}
	below := filepath.Join(file, "below")
	for _, missing := range []string{filepath.Join(dir, "none"), below} {
		if _, err := newFiles().Open(missing); fault.ReasonOf(err) != ReasonNotFound {
			t.Errorf("read %s: %v", missing, err)
		}
	}
	if _, err := newFiles().Write(Write{Path: below, Owner: me}, strings.NewReader("x")); fault.ReasonOf(err) != "not_a_directory" {
		t.Errorf("write below a file: %v", err)
	}
}

func TestReadKernelFile(t *testing.T) {
	c, err := newFiles().Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	if err != nil || c.Size != -1 || !strings.Contains(string(b), "\nPid:") {
		t.Errorf("size %d, %d bytes, %v", c.Size, len(b), err)
	}
}

func TestMetadataIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	put := func(m map[string]string) map[string]string {
		t.Helper()
		if _, err := newFiles().Write(Write{Path: path, Owner: me, Metadata: m}, strings.NewReader("")); err != nil {
			t.Fatal(err)
		}
		e, err := newFiles().Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return e.Metadata
	}
	if unix.Setxattr(filepath.Dir(path), "user.probe", nil, 0) == nil {
		if got := put(map[string]string{"Colour": "blue"}); got["colour"] != "blue" {
			t.Errorf("got %v", got)
		}
	}
	if got := put(nil); got != nil {
		t.Errorf("not cleared: %v", got)
	}
	bad := map[string]string{"k": "tab\t"}
	if _, err := newFiles().Write(Write{Path: path, Owner: me, Metadata: bad}, strings.NewReader("")); !fault.Is(err, fault.Invalid) {
		t.Errorf("unprintable: %v", err)
	}
}

func TestStat(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "12345")
	for link, to := range map[string]string{"tofile": "file", "todir": ".", "broken": "nowhere"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name        string
		is          Type
		mode        uint32
		permissions string
		target      string
	}{
		{"file", File, 0o644, "-rw-r--r--", ""},
		{"tofile", File, 0o644, "Lrwxrwxrwx", filepath.Join(dir, "file")},
		{"todir", Dir, 0o755, "Lrwxrwxrwx", dir},
		{"broken", Unspecified, 0, "Lrwxrwxrwx", "nowhere"},
	}
	for _, tt := range tests {
		e, err := newFiles().Stat(filepath.Join(dir, tt.name))
		if err != nil {
			t.Fatal(err)
		}
		target := ""
		if e.Target != nil {
			target = *e.Target
		}
		if e.Type != tt.is || e.Mode != tt.mode || e.Permissions != tt.permissions || target != tt.target || e.Name != tt.name {
			t.Errorf("%s: %+v, target %q", tt.name, e, target)
		}
	}
	if _, err := newFiles().Stat(filepath.Join(dir, "none")); fault.ReasonOf(err) != ReasonNotFound {
		t.Errorf("missing: %v", err)
	}
}

func TestDirectories(t *testing.T) {
	dir := t.TempDir()
	f := newFiles()
	if e, err := f.MakeDir(filepath.Join(dir, "a/b"), me); err != nil || e.Type != Dir {
		t.Fatalf("%+v, %v", e, err)
	}
	if _, err := f.MakeDir(filepath.Join(dir, "a"), me); !fault.Is(err, fault.Exists) {
		t.Errorf("existing directory: %v", err)
	}
	write(t, filepath.Join(dir, "a/b/z"), "")
	write(t, filepath.Join(dir, "a/a"), "")
	if _, err := f.MakeDir(filepath.Join(dir, "a/a"), me); !fault.Is(err, fault.Invalid) {
		t.Errorf("existing file: %v", err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"a", "a/a", "a/b", "a/b/z"}) {
		t.Errorf("order: %v", got)
	}
	if shallow, err := f.List(dir, 0); err != nil || len(shallow) != 1 {
		t.Errorf("depth 0: %v, %v", shallow, err)
	}
	if _, err := f.List(filepath.Join(dir, "a/a"), 1); !fault.Is(err, fault.Invalid) {
		t.Errorf("list a file: %v", err)
	}
	if _, err := f.List(filepath.Join(dir, "none"), 1); !fault.Is(err, fault.NotFound) {
		t.Errorf("list nothing: %v", err)
	}
	for range 2 {
		if err := f.Remove(filepath.Join(dir, "a")); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	if err := f.Remove("/.."); !fault.Is(err, fault.Invalid) {
		t.Errorf("remove the root: %v", err)
	}
}

func TestMove(t *testing.T) {
	dir := t.TempDir()
	f := newFiles()
	write(t, filepath.Join(dir, "from/file"), "x")
	e, err := f.Move(filepath.Join(dir, "from"), filepath.Join(dir, "new/to"), me)
	if err != nil || e.Path != filepath.Join(dir, "new/to") || read(t, filepath.Join(dir, "new/to/file")) != "x" {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := f.Move(filepath.Join(dir, "from"), filepath.Join(dir, "y"), me); !fault.Is(err, fault.NotFound) {
		t.Errorf("missing source: %v", err)
	}
}

func TestMoveAcrossFileSystems(t *testing.T) {
	dir := t.TempDir()
	source, destination := filepath.Join(dir, "tree"), filepath.Join(dir, "moved")
	write(t, filepath.Join(source, "sub/file"), "content")
	if err := os.Symlink("sub/file", filepath.Join(source, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(source, "sub"), 0o711); err != nil {
		t.Fatal(err)
	}
	if err := moveAcross(t.Context(), source, destination, true); err != nil {
		t.Fatal(err)
	}
	if read(t, filepath.Join(destination, "link")) != "content" || mode(t, filepath.Join(destination, "sub")) != 0o711 {
		t.Error("the copy differs")
	}
	if got := names(t, dir); !slices.Equal(got, []string{"moved", "moved/link", "moved/sub", "moved/sub/file"}) {
		t.Errorf("left: %v", got)
	}
}

func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		if slices.Contains(strings.Split(os.Getenv("WRENN_REQUIRE"), ","), "root") {
			t.Fatal(err)
		}
		t.Skip("needs root to mount a small file system")
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	_, err := newFiles().Write(Write{Path: filepath.Join(dir, "f"), Owner: me}, io.LimitReader(zeros{}, 1<<20))
	if fault.ReasonOf(err) != ReasonDiskFull {
		t.Errorf("got %v", err)
	}
	if got := names(t, dir); got != nil {
		t.Errorf("left behind: %v", got)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestOpenRefusesWhatTheKernelDoesNotRead opens files that open(2) takes and
// read(2) refuses: the caller learns it before any content is promised.
func TestOpenRefusesWhatTheKernelDoesNotRead(t *testing.T) {
	c, err := newFiles().Open("/proc/self/mem")
	if err == nil {
		_ = c.Close()
	}
	if fault.KindOf(err) != fault.Invalid || fault.ReasonOf(err) != "not_a_file" || !strings.Contains(fault.As(err).Public, "refuses to read it") {
		t.Errorf("opening /proc/self/mem: %v, want not_a_file with the kernel's answer", err)
	}
}

// TestKernelFilesAreReadWhole compares a kernel file longer than the part that Open reads
// at once, read in small pieces, with the file itself.
func TestKernelFilesAreReadWhole(t *testing.T) {
	const path = "/proc/kallsyms"
	want, err := os.ReadFile(path)
	if err != nil || len(want) <= headSize {
		t.Skipf("%s has %d bytes here (%v), too few to tell", path, len(want), err)
	}
	c, err := newFiles().Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := io.ReadAll(iotest.HalfReader(c))
	if err != nil || builtIn(got) != builtIn(want) {
		t.Errorf("got %d bytes (%v), want the %d of the file", len(got), err, len(want))
	}
}

// builtIn returns the lines of /proc/kallsyms without those of modules and programs, which
// come and go.
func builtIn(symbols []byte) string {
	var kept strings.Builder
	for line := range strings.Lines(string(symbols)) {
		if !strings.Contains(line, "[") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}
