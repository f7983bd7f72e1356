package disk

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBallast: it takes its space, gives it back when the disk is full, and
// takes it again only when there is plenty.
func TestBallast(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	b := Ballast{Path: filepath.Join(dir, "ballast"), Size: 64 << 20}
	want := func(when string, released, made bool, size int64) {
		t.Helper()
		gotReleased, gotMade, err := b.Adjust()
		if err != nil || gotReleased != released || gotMade != made {
			t.Errorf("%s: released %t, made %t, %v; want %t and %t", when, gotReleased, gotMade, err, released, made)
		}
		var st unix.Stat_t
		if err := unix.Stat(b.Path, &st); err != nil || st.Blocks*512 != size {
			t.Errorf("%s: it takes %d MB, %v; want %d MB", when, st.Blocks>>11, err, size>>20)
		}
	}
	filler := filepath.Join(dir, "filler")
	leave := func(free int64) {
		t.Helper()
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(filler, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Fallocate(int(f.Fd()), 0, 0, info.Size()+int64(st.Bavail)*st.Frsize-free); err != nil {
			t.Fatal(err)
		}
	}
	want("at first", false, true, b.Size)
	want("with space", false, false, b.Size)
	leave(8 << 20)
	want("on a full disk", true, false, 0)
	want("with little space", false, false, 0)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	want("with plenty of space again", false, true, b.Size)
}
