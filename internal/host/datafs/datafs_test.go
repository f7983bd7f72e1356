package datafs

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// need skips the test for want of something, or fails it where WRENN_REQUIRE
// demands the suite.
func need(t *testing.T, format string, args ...any) {
	t.Helper()
	for _, required := range strings.Split(os.Getenv("WRENN_REQUIRE"), ",") {
		if required == "root" {
			t.Fatalf(format, args...)
		}
	}
	t.Skipf(format, args...)
}

// place returns an unused place. The test's thread has a mount namespace of
// its own, which ends with it; nothing may be mounted or attached at the end.
func place(t *testing.T) Place {
	t.Helper()
	if os.Geteuid() != 0 {
		need(t, "mounting needs root")
	}
	if _, err := findMkfs(); err != nil {
		need(t, "%v", err)
	}
	dir := t.TempDir()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	check(t, unix.Unshare(unix.CLONE_NEWNS))
	check(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	p := Place{Image: filepath.Join(dir, "host.xfs"), Dir: filepath.Join(dir, "the host")} // a space, for the kernel escapes it
	t.Cleanup(func() {
		for unix.Unmount(p.Dir, unix.MNT_DETACH) == nil {
			t.Logf("%s was still mounted", p.Dir)
		}
	})
	return p
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, p Place) Mount {
	t.Helper()
	m, err := p.Open(t.Context(), MinSize)
	check(t, err)
	return m
}

// closed unmounts p and fails the test if a loop device is left.
func closed(t *testing.T, p Place) {
	t.Helper()
	check(t, p.Close())
	wantNoDevice(t, p)
}

func wantNoDevice(t *testing.T, p Place) {
	t.Helper()
	st, err := p.stat()
	check(t, err)
	device, err := find(st)
	check(t, err)
	if device != nil {
		t.Errorf("%s still stands for the image", device.Name())
		check(t, device.Close())
	}
}

func wantFault(t *testing.T, err error, kind fault.Kind, reason string) {
	t.Helper()
	if !fault.Is(err, kind) || fault.ReasonOf(err) != reason {
		t.Errorf("got %v, want %s %s", err, kind, reason)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.Create(path)
	check(t, err)
	defer f.Close()
	_, err = f.WriteString(text)
	check(t, errors.Join(err, f.Sync()))
}

func wantText(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); string(got) != want {
		t.Errorf("%s has %q, %v; want %q", filepath.Base(path), got, err, want)
	}
}

func TestOpenMakesThenFindsThenMountsAgain(t *testing.T) {
	p := place(t)
	check(t, os.Mkdir(p.Dir, 0o711))
	first := open(t, p)
	if !first.Made || first.Found {
		t.Errorf("the first time: %+v", first)
	}
	var st unix.Statfs_t
	check(t, unix.Statfs(p.Dir, &st))
	if st.Type != unix.XFS_SUPER_MAGIC || st.Flags&unix.ST_NOSUID == 0 || st.Flags&unix.ST_NODEV == 0 {
		t.Errorf("mounted is %#x with flags %#x", st.Type, st.Flags)
	}
	if info, err := os.Stat(p.Dir); err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("its root: %v, %v", info, err)
	}
	file := filepath.Join(p.Dir, "file")
	write(t, file, "kept")

	if again := open(t, p); again.Made || !again.Found || again.Device != first.Device {
		t.Errorf("mounted already: %+v, first was %+v", again, first)
	}
	closed(t, p)
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the unmount the file is there: %v", err)
	}
	if again := open(t, p); again.Made || again.Found {
		t.Errorf("after an unmount: %+v", again)
	}
	wantText(t, file, "kept")
	closed(t, p)
	check(t, p.Close())
}

func TestFilesShareBlocks(t *testing.T) {
	p := place(t)
	open(t, p)
	src, err := os.Create(filepath.Join(p.Dir, "src"))
	check(t, err)
	defer src.Close()
	_, err = src.Write(bytes.Repeat([]byte{1}, 1<<20))
	check(t, err)
	dst, err := os.Create(filepath.Join(p.Dir, "dst"))
	check(t, err)
	defer dst.Close()
	check(t, unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())))
	check(t, errors.Join(src.Close(), dst.Close()))
	closed(t, p)
}

func TestImageIsSparse(t *testing.T) {
	p := place(t)
	const size = 64 << 30
	_, err := p.Open(t.Context(), size)
	check(t, err)
	st, err := p.stat()
	check(t, err)
	if st.Size != size || st.Blocks*512 > 128<<20 {
		t.Errorf("a new image has %d bytes and takes %d", st.Size, st.Blocks*512)
	}
	closed(t, p)
}

// TestCrashes lets a process die at each step; the next start completes the work.
func TestCrashes(t *testing.T) {
	for name, crash := range map[string]func(*testing.T, Place){
		"while it was made": func(t *testing.T, p Place) {
			check(t, os.WriteFile(p.Image+".new", []byte("XFSB, and no more"), 0o600))
		},
		"before it was attached": func(t *testing.T, p Place) {
			check(t, p.make(t.Context(), MinSize))
		},
		"before it was mounted": func(t *testing.T, p Place) {
			check(t, p.make(t.Context(), MinSize))
			device, err := p.device()
			check(t, err)
			check(t, device.Close()) // as the kernel does for the dead
			wantNoDevice(t, p)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := place(t)
			crash(t, p)
			open(t, p)
			if _, err := os.Stat(p.Image + ".new"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("half an image is left: %v", err)
			}
			write(t, filepath.Join(p.Dir, "file"), "works")
			closed(t, p)
		})
	}
}

// TestPowerCut stops the file system as a power cut would: synced content is
// in its log alone, which the next mount replays.
func TestPowerCut(t *testing.T) {
	p := place(t)
	open(t, p)
	file := filepath.Join(p.Dir, "file")
	write(t, file, "synced")
	shutDown(t, p)
	if _, err := os.Create(filepath.Join(p.Dir, "other")); err == nil {
		t.Error("the file system still works")
	}
	_, err := p.Open(t.Context(), MinSize)
	wantFault(t, err, fault.HostFailed, "data_fs_failed")
	closed(t, p)
	open(t, p)
	wantText(t, file, "synced")
	closed(t, p)
}

// shutDown stops the file system as a power cut would.
func shutDown(t *testing.T, p Place) {
	t.Helper()
	dir, err := os.Open(p.Dir)
	check(t, err)
	const goingDown, noLogFlush = 0x8004587d, 2 // XFS_IOC_GOINGDOWN, XFS_FSOP_GOING_FLAGS_NOLOGFLUSH
	check(t, errors.Join(unix.IoctlSetPointerInt(int(dir.Fd()), goingDown, noLogFlush), dir.Close()))
}

// TestAnotherNamespaceKeepsAFailedOne: a file system that has shut down and that a
// process with a copy of the mounts keeps alive is mounted when that has ended.
func TestAnotherNamespaceKeepsAFailedOne(t *testing.T) {
	p := place(t)
	open(t, p)
	file := filepath.Join(p.Dir, "file")
	write(t, file, "synced")
	release := hold(t)
	shutDown(t, p)
	check(t, p.Close())
	ctx, cancel := context.WithTimeout(t.Context(), 4*keptRetry)
	defer cancel()
	_, err := p.Open(ctx, MinSize)
	wantFault(t, err, fault.HostFailed, "data_fs_failed")
	if at, err := mountedAt(p.Dir); at != "" || err != nil {
		t.Errorf("device %q stays mounted (%v)", at, err)
	}
	release()
	open(t, p)
	wantText(t, file, "synced")
	closed(t, p)
}

// hold starts a process with a copy of the mounts, and returns a function that ends it.
func hold(t *testing.T) (release func()) {
	t.Helper()
	holder := exec.Command("cat")
	holder.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	stdin, err := holder.StdinPipe()
	check(t, err)
	check(t, holder.Start()) // which returns when the namespace is made
	return func() { t.Helper(); check(t, errors.Join(stdin.Close(), holder.Wait())) }
}

func TestFullFileSystemStaysWhole(t *testing.T) {
	p := place(t)
	open(t, p)
	file, ballast := filepath.Join(p.Dir, "file"), filepath.Join(p.Dir, "ballast")
	write(t, file, "kept")
	f, err := os.Create(ballast)
	check(t, err)
	defer f.Close()
	at := int64(0)
	for step := int64(64 << 20); step >= 4096; {
		switch err := unix.Fallocate(int(f.Fd()), 0, at, step); {
		case err == nil:
			at += step
		case errors.Is(err, unix.ENOSPC):
			step /= 2
		default:
			t.Fatal(err)
		}
	}
	if _, err := f.WriteAt(make([]byte, 1<<20), at); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a write into a full file system: %v, want ENOSPC", err)
	}
	check(t, f.Close())
	wantText(t, file, "kept")
	closed(t, p)
	if out, err := exec.Command("/sbin/xfs_repair", "-n", "-f", p.Image).CombinedOutput(); err != nil {
		t.Errorf("xfs_repair: %v\n%s", err, out)
	}
	open(t, p)
	check(t, os.Remove(ballast))
	write(t, file, "works again")
	closed(t, p)
}

func TestCloseLeavesWhatIsInUse(t *testing.T) {
	p := place(t)
	open(t, p)
	f, err := os.Create(filepath.Join(p.Dir, "file"))
	check(t, err)
	defer f.Close()
	wantFault(t, p.Close(), fault.WrongState, "data_fs_busy")
	if m := open(t, p); !m.Found {
		t.Errorf("it is not mounted any more: %+v", m)
	}
	check(t, f.Close())
	closed(t, p)
}

// TestAnotherNamespaceHoldsIt: a process that was started with a copy of the
// mounts keeps the device, which the next mount must share.
func TestAnotherNamespaceHoldsIt(t *testing.T) {
	p := place(t)
	first := open(t, p)
	release := hold(t)
	check(t, p.Close())
	again := open(t, p)
	if again.Found || again.Device != first.Device {
		t.Errorf("mounted %+v beside %+v", again, first)
	}
	write(t, filepath.Join(p.Dir, "file"), "one file system")
	release()
	wantText(t, filepath.Join(p.Dir, "file"), "one file system")
	check(t, p.Close())
}
