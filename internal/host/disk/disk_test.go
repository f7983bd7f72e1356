package disk_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/linux/durable"
)

// need skips the test for want of something, or fails it where WRENN_REQUIRE
// demands the suite.
func need(t *testing.T, suite, format string, args ...any) {
	t.Helper()
	for _, required := range strings.Split(os.Getenv("WRENN_REQUIRE"), ",") {
		if required == suite {
			t.Fatalf(format, args...)
		}
	}
	t.Skipf(format, args...)
}

func mustUsage(t testing.TB, path string) int64 {
	t.Helper()
	n, err := disk.Usage(path)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestCreateMakesASmallSoundFileSystem(t *testing.T) {
	for _, sizeMB := range []int64{16, 256, 2048, 20480} {
		path := filepath.Join(t.TempDir(), "rw.img")
		if err := disk.Create(t.Context(), path, sizeMB<<20); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Size() != sizeMB<<20 || info.Mode().Perm() != 0o600 {
			t.Errorf("%d MB: got %v, %v", sizeMB, info, err)
		}
		if used := mustUsage(t, path); used > 16<<20 {
			t.Errorf("%d MB: %d bytes are allocated", sizeMB, used)
		}
		out, err := exec.Command("/sbin/e2fsck", "-fn", path).CombinedOutput()
		if err != nil {
			t.Errorf("%d MB: e2fsck: %v\n%s", sizeMB, err, out)
		}
	}
}

func TestCreateRefusesAndCleans(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "rw.img")
	if err := disk.Create(t.Context(), path, 1<<20); !fault.Is(err, fault.Invalid) {
		t.Errorf("1 MB: %v, want Invalid", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := disk.Create(ctx, path, 1<<30); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if left := names(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestCloneIsEqualAndAsSparse clones files with any pattern of data and holes.
func TestCloneIsEqualAndAsSparse(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.Int64Range(0, 4<<20).Draw(rt, "size")
		f, err := os.Create(src)
		if err != nil {
			rt.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(size); err != nil {
			rt.Fatal(err)
		}
		for range rapid.IntRange(0, 6).Draw(rt, "extents") {
			at := rapid.Int64Range(0, size).Draw(rt, "at")
			data := bytes.Repeat([]byte{0xa5}, int(min(size-at, rapid.Int64Range(0, 70000).Draw(rt, "length"))))
			if _, err := f.WriteAt(data, at); err != nil {
				rt.Fatal(err)
			}
		}
		if _, err := disk.Clone(context.Background(), dst, src); err != nil {
			rt.Fatal(err)
		}
		want, _ := os.ReadFile(src)
		got, _ := os.ReadFile(dst)
		if !bytes.Equal(got, want) {
			rt.Fatal("the clone differs from its source")
		}
		if a, b := mustUsage(t, dst), mustUsage(t, src); a > b+64<<10 {
			rt.Fatalf("the clone takes %d bytes, its source %d", a, b)
		}
	})
	if left := names(t, dir); len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
}

func TestCloneAcrossFileSystems(t *testing.T) {
	src := filepath.Join(t.TempDir(), "src")
	shm, err := os.MkdirTemp("/dev/shm", "wrenn-disk-test-")
	if err != nil {
		t.Skip("no /dev/shm here")
	}
	t.Cleanup(func() { os.RemoveAll(shm) })
	want := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{}).Read(want[1<<20:])
	if err := os.WriteFile(src, want, 0o600); err != nil {
		t.Fatal(err)
	}
	dst := filepath.Join(shm, "dst")
	method, err := disk.Clone(t.Context(), dst, src)
	if err != nil || method != disk.Copy {
		t.Fatalf("clone: %q, %v", method, err)
	}
	if got, _ := os.ReadFile(dst); !bytes.Equal(got, want) {
		t.Fatal("the clone differs from its source")
	}
	if err := durable.Sync(dst); err != nil {
		t.Fatal(err)
	}
}

func TestCloneOfNothing(t *testing.T) {
	dir := t.TempDir()
	_, err := disk.Clone(t.Context(), filepath.Join(dir, "dst"), filepath.Join(dir, "src"))
	if !errors.Is(err, os.ErrNotExist) || len(names(t, dir)) > 0 {
		t.Fatalf("got %v and %v", err, names(t, dir))
	}
}

func TestReserve(t *testing.T) {
	dir := t.TempDir()
	total, free, err := disk.Space(dir)
	if err != nil || free == 0 || free > total {
		t.Fatalf("space: %d of %d, %v", free, total, err)
	}
	if err := disk.CheckReserve(dir, 0); err != nil {
		t.Error(err)
	}
	mounted(t, func(dir string) {
		if err := disk.CheckReserve(dir, 8<<20); err != nil {
			t.Errorf("a reserve that is just there: %v", err)
		}
		if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 3<<20), 0o600); err != nil {
			t.Error(err)
		}
		err := disk.CheckReserve(dir, 8<<20)
		if !fault.Is(err, fault.NoCapacity) || fault.ReasonOf(err) != "disk_reserve" {
			t.Errorf("below the reserve: %v, want NoCapacity", err)
		}
		if err == nil || !strings.Contains(fault.As(err).Public, "5 MB are free and 8 MB are kept") {
			t.Errorf("the sentence does not say how much is free and kept: %v", err)
		}
	}, "-t", "tmpfs", "-o", "size=8m", "tmpfs")
}

func TestUsageOfATree(t *testing.T) {
	dir := t.TempDir()
	file, other := filepath.Join(dir, "a", "file"), filepath.Join(t.TempDir(), "other")
	for _, name := range []string{file, other} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, bytes.Repeat([]byte{1}, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(file, 1<<40); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Link(file, filepath.Join(dir, "again")), os.Symlink(other, filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	// One megabyte, with some for directories: no hole, no second name, no
	// link's target.
	if n := mustUsage(t, dir); n < 1<<20 || n > 1<<20+64<<10 {
		t.Errorf("%d bytes, want a little more than one megabyte", n)
	}
	if n := mustUsage(t, filepath.Join(dir, "link")); n > 64<<10 {
		t.Errorf("a link takes %d bytes", n)
	}
	if _, err := disk.Usage(filepath.Join(dir, "nosuch")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("usage of nothing: %v", err)
	}
}

// TestLayerHasAFixedSize: the layer's file system fills before its file grows,
// so that its size is the most that a sandbox can take of the host's disk.
func TestLayerHasAFixedSize(t *testing.T) {
	const size = 64 << 20
	path := filepath.Join(t.TempDir(), "rw.img")
	if err := disk.Create(t.Context(), path, size); err != nil {
		t.Fatal(err)
	}
	mounted(t, func(dir string) {
		err := os.WriteFile(filepath.Join(dir, "much"), make([]byte, size), 0o600)
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("more than the layer holds: %v, want ENOSPC", err)
		}
	}, "-o", "loop", path)
	if info, err := os.Stat(path); err != nil || info.Size() != size {
		t.Errorf("the layer is now %v, %v", info, err)
	}
	if used := mustUsage(t, path); used > size+1<<20 {
		t.Errorf("it takes %d bytes of the host's disk", used)
	}
}

// TestSpaceBelowALoop: a sparse file on a small disk promises more than it has.
func TestSpaceBelowALoop(t *testing.T) {
	mounted(t, func(dir string) {
		path := filepath.Join(dir, "rw.img")
		inner := filepath.Join(dir, "inner")
		if err := errors.Join(disk.Create(t.Context(), path, 1<<30), os.Mkdir(inner, 0o700)); err != nil {
			t.Error(err)
			return
		}
		if out, err := exec.Command("mount", "-o", "loop", path, inner).CombinedOutput(); err != nil {
			t.Errorf("mount: %v\n%s", err, out)
			return
		}
		total, free, err := disk.Space(inner)
		if err != nil || total < 900<<20 || free > 32<<20 {
			t.Errorf("%d of %d bytes are free, %v; the disk below has 32 MB", free, total, err)
		}
	}, "-t", "tmpfs", "-o", "size=32m", "tmpfs")
}

// mounted runs check with a directory on which args were mounted. The mount
// is in a namespace of one thread, which ends with the test, so that nothing
// can be left; check must stay on its goroutine.
func mounted(t *testing.T, check func(dir string), args ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		need(t, "root", "mounting needs root")
	}
	dir := t.TempDir()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread and its mounts end here
		if err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")); err != nil {
			t.Errorf("unshare: %v", err)
			return
		}
		if out, err := exec.Command("mount", append(args, dir)...).CombinedOutput(); err != nil {
			t.Errorf("mount: %v\n%s", err, out)
			return
		}
		check(dir)
	}()
	<-done
}

func TestFullDiskLeavesNothing(t *testing.T) {
	src := filepath.Join(t.TempDir(), "src")
	if err := os.WriteFile(src, bytes.Repeat([]byte{1}, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	mounted(t, func(dir string) {
		_, err := disk.Clone(t.Context(), filepath.Join(dir, "dst"), src)
		if !fault.Is(err, fault.NoCapacity) || fault.ReasonOf(err) != "disk_full" {
			t.Errorf("clone: %v, want NoCapacity", err)
		}
		if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 4<<20-4096), 0o600); err != nil {
			t.Error(err)
		}
		if err := disk.Create(t.Context(), filepath.Join(dir, "rw.img"), 1<<30); !fault.Is(err, fault.NoCapacity) {
			t.Errorf("create: %v, want NoCapacity", err)
		}
		if left := names(t, dir); len(left) != 1 {
			t.Errorf("left behind: %v", left)
		}
	}, "-t", "tmpfs", "-o", "size=4m", "tmpfs")
}

func TestReflink(t *testing.T) {
	mkfs, err := exec.LookPath("mkfs.xfs")
	if err != nil {
		need(t, "root", "no mkfs.xfs here: install xfsprogs")
	}
	image := filepath.Join(t.TempDir(), "xfs.img")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 512<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs, "-q", "-m", "reflink=1", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.xfs: %v\n%s", err, out)
	}
	mounted(t, func(dir string) {
		caps, err := disk.Probe(dir)
		if err != nil || caps != (disk.Capabilities{FS: "xfs", Reflink: true}) {
			t.Errorf("probe: %+v, %v", caps, err)
		}
		src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
		want := bytes.Repeat([]byte("wrenn"), 4<<20)
		if err := os.WriteFile(src, want, 0o600); err != nil {
			t.Error(err)
		}
		if err := durable.Sync(src); err != nil {
			t.Error(err)
		}
		_, before, _ := disk.Space(dir)
		method, err := disk.Clone(t.Context(), dst, src)
		if err != nil || method != disk.Reflink {
			t.Errorf("clone: %q, %v", method, err)
		}
		if _, after, _ := disk.Space(dir); before-after > 1<<20 {
			t.Errorf("the clone took %d bytes", before-after)
		}
		if got, _ := os.ReadFile(dst); !bytes.Equal(got, want) {
			t.Error("the clone differs from its source")
		}
	}, "-o", "loop", image)
}

func TestProbeHere(t *testing.T) {
	dir := t.TempDir()
	caps, err := disk.Probe(dir)
	if err != nil || caps.FS == "" {
		t.Fatalf("%+v, %v", caps, err)
	}
	if left := names(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
