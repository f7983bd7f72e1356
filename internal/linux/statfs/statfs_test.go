package statfs

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPathAndFileAgree(t *testing.T) {
	dir := t.TempDir()
	byPath, err := Path(dir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	byFile, err := File(f)
	if err != nil {
		t.Fatal(err)
	}
	if byPath.Type != byFile.Type || byPath.Size != byFile.Size {
		t.Errorf("one file system by path and by file: got %+v and %+v", byPath, byFile)
	}
	if byPath.Available > byPath.Size || byPath.Free > byPath.Size {
		t.Errorf("got more free space than the file system has: %+v", byPath)
	}
}

func TestProcIsNoDisk(t *testing.T) {
	got, err := Path("/proc")
	if err != nil || got.Type != unix.PROC_SUPER_MAGIC || got.Size != 0 {
		t.Errorf("/proc: got %+v, %v; want type %#x and no space", got, err, unix.PROC_SUPER_MAGIC)
	}
	if _, err := Path("/proc/no-such-name"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing path: got %v, want no such file", err)
	}
}

func TestBytesAreFragments(t *testing.T) {
	got := info(&unix.Statfs_t{Bsize: 1 << 20, Frsize: 4096, Blocks: 10, Bfree: 5, Bavail: 4})
	if got.Size != 10*4096 || got.Free != 5*4096 || got.Available != 4*4096 {
		t.Errorf("10 fragments of 4096 bytes, 5 free, 4 available: got %+v", got)
	}
}
