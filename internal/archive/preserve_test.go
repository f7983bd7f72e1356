package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/archive"
)

// TestPreserve needs root, because only root gives files away.
func TestPreserve(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []*tar.Header{
		{Name: "there/", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 5, Gid: 6},
		{Name: "new/", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 5, Gid: 6},
		{Name: "new/sudo", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 7, Gid: 8},
		{Name: "new/link", Typeflag: tar.TypeSymlink, Linkname: "sudo", Uid: 9, Gid: 10},
	} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "there"), 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if _, err := archive.Unpack(context.Background(), root, &b, archive.Unpacking{Preserve: true, KeepDirs: true, Owner: &archive.Owner{}}); err != nil {
		t.Fatalf("Unpack: %v", err)
	}
	for name, want := range map[string]struct {
		mode     fs.FileMode
		uid, gid uint32
	}{
		"there":    {fs.ModeDir | 0o755, 0, 0},
		"new":      {fs.ModeDir | fs.ModeSticky | 0o777, 5, 6},
		"new/sudo": {fs.ModeSetuid | 0o755, 7, 8},
		"new/link": {fs.ModeSymlink | 0o777, 9, 10},
	} {
		fi, err := root.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		st := fi.Sys().(*syscall.Stat_t)
		if fi.Mode() != want.mode || st.Uid != want.uid || st.Gid != want.gid {
			t.Errorf("%s: got %v %d:%d, want %v %d:%d", name, fi.Mode(), st.Uid, st.Gid, want.mode, want.uid, want.gid)
		}
	}
}

func TestPreserveRefusesAnOwnerThatIsNoID(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg, Uid: 1<<32 - 1, Format: tar.FormatPAX}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if _, err := archive.Unpack(context.Background(), root, &b, archive.Unpacking{Preserve: true}); !errors.Is(err, archive.ErrInvalid) {
		t.Errorf("Unpack: %v, want ErrInvalid", err)
	}
}
