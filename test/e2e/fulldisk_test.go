package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
)

// TestFullDisk fills the file system of the data directory: what needs room
// is refused, what runs goes on, and with room everything works again.
func TestFullDisk(t *testing.T) {
	needVMs(t)
	t.Parallel()
	s := startUpIn(t, loopDir(t, 4<<30))
	sb := create(t, s.Client, small)
	sh(t, s.Client, sb.ID, counter)
	ballast := filepath.Join(s.dir, "ballast")

	// Below the reserve there are no new sandboxes, but a pause still works.
	fill(t, ballast, 1<<30)
	a := call(t, s.Client, "POST", "/v1/sandboxes", `{"memory_mb":256}`)
	a.wantError(t, 503, "disk_reserve")
	if a.header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	_, err := s.Pause(t.Context(), sb.ID)
	check(t, err)
	_, err = s.Resume(t.Context(), sb.ID)
	check(t, err)
	goesOn(t, s.Client, sb.ID, "1")

	// With hardly any room, a pause is refused and changes nothing.
	fill(t, ballast, 8<<20)
	goesOn(t, s.Client, sb.ID, "1")
	_, err = s.Pause(t.Context(), sb.ID)
	wantFailure(t, err, 503, "disk_reserve")
	goesOn(t, s.Client, sb.ID, "1")

	check(t, os.Remove(ballast))
	_, err = s.Pause(t.Context(), sb.ID)
	check(t, err)
	_, err = s.Resume(t.Context(), sb.ID)
	check(t, err)
	goesOn(t, s.Client, sb.ID, "1")
	create(t, s.Client, small)
	wantTruth(t, s.Client, s.dir)
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
