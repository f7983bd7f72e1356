package filesystem

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// needRoot skips the test for users who cannot give files away.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
}

func TestWriteKeepsTheOwnerUnlessToldOtherwise(t *testing.T) {
	needRoot(t)
	path := filepath.Join(t.TempDir(), "dir", "file")
	for _, step := range []struct {
		name string
		w    Write
		want Owner
	}{
		{"a new file is its owner's", Write{Owner: Owner{UID: 7, GID: 8}}, Owner{UID: 7, GID: 8}},
		{"an existing one keeps its owner", Write{Owner: Owner{UID: 1, GID: 1}}, Owner{UID: 7, GID: 8}},
		{"unless it is given away", Write{Owner: Owner{UID: 1, GID: 2}, Chown: true}, Owner{UID: 1, GID: 2}},
		{"to root as well", Write{Chown: true}, Owner{}},
	} {
		step.w.Path = path
		if _, err := newFiles().Write(step.w, strings.NewReader(step.name)); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := ownerOf(fi); got != step.want || read(t, path) != step.name {
			t.Errorf("%s: owner %+v, want %+v", step.name, got, step.want)
		}
	}
	if fi, err := os.Stat(filepath.Dir(path)); err != nil || fi.Sys().(*syscall.Stat_t).Uid != 7 {
		t.Errorf("the parent that was made does not belong to the first owner: %v, %v", fi, err)
	}
}

func TestWriteThroughALinkKeepsTheOwnerOfTheFile(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	write(t, file, "old")
	if err := os.Chown(file, 9, 9); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("file", link); err != nil {
		t.Fatal(err)
	}
	write(t, link, "new")
	fi, err := os.Stat(file)
	if err != nil || ownerOf(fi) != (Owner{UID: 9, GID: 9}) {
		t.Errorf("owner %+v, %v; want 9", ownerOf(fi), err)
	}
}

func TestWriteRefusesFileSystemsOfTheKernel(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/proc/sys/kernel/hostname", link); err != nil {
		t.Fatal(err)
	}
	before := read(t, "/proc/sys/kernel/hostname")
	for _, path := range []string{
		"/proc/x", "/proc/self/x/y", "/proc/sys/kernel/hostname", "/sys/x", "/sys/kernel/notes", "/sys/none/none", link,
	} {
		_, err := newFiles().Write(Write{Path: path, Owner: me}, strings.NewReader("x"))
		if !fault.Is(err, fault.Invalid) || fault.ReasonOf(err) != "invalid_path" || !strings.Contains(err.Error(), "the kernel's") {
			t.Errorf("%s: got %v, want invalid_path", path, err)
		}
	}
	if got := read(t, "/proc/sys/kernel/hostname"); got != before {
		t.Errorf("the host name became %q", got)
	}
}

func TestResolveFile(t *testing.T) {
	bases := Bases{Home: "/home/u"}
	for in, want := range map[string]string{"/a/b": "/a/b", "b": "/home/u/b", "~/b": "/home/u/b", "/a/../b": "/b", "/a/.b": "/a/.b", "/a/b..": "/a/b.."} {
		if got, err := ResolveFile(in, bases); err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"/", "/a/", "a/", "/a/.", "/a/..", ".", "..", "~/"} {
		if got, err := ResolveFile(in, bases); fault.ReasonOf(err) != "invalid_path" {
			t.Errorf("%q: got %q, %v, want invalid_path", in, got, err)
		}
	}
}
