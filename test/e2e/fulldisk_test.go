package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/client"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/pgtest"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
)

// TestFullDisk fills the file system of the data directory: an operation that needs room
// is refused, running sandboxes continue, and with free space everything works again.
func TestFullDisk(t *testing.T) {
	needVMs(t)
	t.Parallel()
	s := startUpIn(t, loopDir(t, 4<<30))
	sb := create(t, s.Client, small)
	sh(t, s.Client, sb.ID, counter)
	filler := filepath.Join(s.dir, "filler")

	// A disk larger than the host could ever provide is refused.
	a := call(t, s.Client, "POST", "/v1/sandboxes", `{"memory_mb":256,"disk_mb":1048576}`)
	a.wantError(t, 503, "no_disk")

	// Below the reserve there are no new sandboxes, but a pause still works.
	fill(t, filler, 1<<30)
	a = call(t, s.Client, "POST", "/v1/sandboxes", `{"memory_mb":256}`)
	a.wantError(t, 503, "disk_reserve")
	if a.header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	_, err := s.Pause(t.Context(), sb.ID)
	check(t, err)
	_, err = s.Resume(t.Context(), sb.ID)
	check(t, err)
	goesOn(t, s.Client, sb.ID, "1")

	// With hardly any space, a pause is refused and changes nothing. The test
	// fills the server's own reserve as well.
	fill(t, filler, 8<<20)
	eventually(t, "the server gives up its own ballast", func() bool {
		info, err := os.Stat(filepath.Join(s.dir, "ballast"))
		return err == nil && info.Size() == 0
	})
	fill(t, filler, 8<<20)
	goesOn(t, s.Client, sb.ID, "1")
	_, err = s.Pause(t.Context(), sb.ID)
	wantFailure(t, err, 503, "disk_reserve")
	goesOn(t, s.Client, sb.ID, "1")

	check(t, os.Remove(filler))
	_, err = s.Pause(t.Context(), sb.ID)
	check(t, err)
	_, err = s.Resume(t.Context(), sb.ID)
	check(t, err)
	goesOn(t, s.Client, sb.ID, "1")
	create(t, s.Client, small)
	wantAgreement(t, s.Client, s.dir)
}

// TestGuestAtAFullDisk has a guest write more than its host has room for, its
// ballast included. The sandbox is stopped, disk_full is true, and it continues
// without a lost write when there is space. A paused sandbox cannot be resumed
// meanwhile, but afterwards.
func TestGuestAtAFullDisk(t *testing.T) {
	needVMs(t)
	for _, fs := range []string{"directory", "xfs"} {
		t.Run(fs, func(t *testing.T) {
			t.Parallel()
			dir := loopDir(t, 6<<30)
			var args []string
			if fs == "xfs" {
				args = []string{"--data-fs", "xfs", "--data-fs-size", "5G"}
			}
			p := startPairIn(t, dir, pgtest.New(t), args...)
			guestAtAFullDisk(t, p.Client, filepath.Join(dir, "filler"))
		})
	}
}

func guestAtAFullDisk(t *testing.T, c *client.Client, filler string) {
	writing, paused := create(t, c, small), create(t, c, small)
	for _, sb := range []*client.Sandbox{writing, paused} {
		sh(t, c, sb.ID, counter)
	}
	_, err := c.Pause(t.Context(), paused.ID)
	check(t, err)
	fill(t, filler, 4<<20)
	sh(t, c, writing.ID, `cd; setsid sh -c 'head -c 160M /dev/zero | tr "\\0" x >big; sync; touch written' >/dev/null 2>&1 &`)
	eventually(t, "the sandbox that writes says that the disk is full", func() bool {
		now, err := c.Get(t.Context(), writing.ID)
		return err == nil && now.DiskFull
	})
	now, err := c.Get(t.Context(), writing.ID)
	check(t, err)
	if now.Status != client.StatusRunning {
		t.Errorf("the stopped sandbox is %s, want running", now.Status)
	}
	_, err = trySh(t.Context(), c, writing.ID, "true")
	wantFailure(t, err, 503, "disk_full")
	for range 2 { // the first changes nothing that the second would stumble over
		_, err = c.Resume(t.Context(), paused.ID)
		wantFailure(t, err, 503, "disk_reserve")
		if sb, err := c.Get(t.Context(), paused.ID); err != nil || sb.Status != client.StatusPaused {
			t.Errorf("after a resume that was refused the sandbox is %+v, %v; want paused", sb, err)
		}
	}

	check(t, os.Remove(filler))
	eventually(t, "the sandbox that wrote continues", func() bool {
		now, err := c.Get(t.Context(), writing.ID)
		return err == nil && !now.DiskFull
	})
	// A file system may take some seconds to hand out freed blocks, although it
	// counts them as free: the guest then stops again and is resumed again.
	eventually(t, "the file that the guest wrote is complete", func() bool {
		_, err := trySh(t.Context(), c, writing.ID, `cd; test -e written && test "$(wc -c <big)" = 167772160 && test "$(tr -d x <big | wc -c)" = 0`)
		return err == nil
	})
	goesOn(t, c, writing.ID, "1")
	_, err = c.Resume(t.Context(), paused.ID)
	check(t, err)
	goesOn(t, c, paused.ID, "1")
}

// fill makes the file so large that left bytes stay free.
func fill(t *testing.T, path string, left uint64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	check(t, err)
	defer f.Close()
	info, err := f.Stat()
	check(t, err)
	for at, step := info.Size(), int64(64<<20); step >= 4<<10; {
		var st unix.Statfs_t
		check(t, unix.Fstatfs(int(f.Fd()), &st))
		if free := st.Bavail * uint64(st.Bsize); free <= left {
			return
		} else if uint64(step) > free-left || unix.Fallocate(int(f.Fd()), 0, at, step) != nil {
			step /= 2
			continue
		}
		at += step
	}
}

// loopDir mounts an empty file system of size bytes and returns a directory
// for a server in it.
func loopDir(t *testing.T, size int64) string {
	t.Helper()
	dir := hosttest.Dir(t)
	image, mount := filepath.Join(dir, "fs"), filepath.Join(dir, "m")
	check(t, os.WriteFile(image, nil, 0o600))
	check(t, os.Truncate(image, size))
	check(t, os.Mkdir(mount, 0o711))
	output(t, "mkfs.ext4", "-q", "-m", "0", image)
	output(t, "mount", "-o", "loop", image, mount)
	t.Cleanup(func() { output(t, "umount", mount) })
	data := filepath.Join(mount, "d")
	check(t, os.Mkdir(data, 0o711))
	useImages(t, data)
	return data
}
