package datafs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

func TestRefusals(t *testing.T) {
	format := func(args ...string) func(*testing.T, Place) {
		return func(t *testing.T, p Place) {
			check(t, os.WriteFile(p.Image, nil, 0o600))
			check(t, os.Truncate(p.Image, MinSize))
			if out, err := exec.Command(args[0], append(args[1:], p.Image)...).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", args[0], err, out)
			}
		}
	}
	for name, c := range map[string]struct {
		before func(*testing.T, Place)
		size   int64
		reason string
	}{
		"an empty file":           {func(t *testing.T, p Place) { check(t, os.WriteFile(p.Image, nil, 0o600)) }, MinSize, "data_fs_foreign"},
		"an ext4":                 {format("/sbin/mke2fs", "-q", "-F"), MinSize, "data_fs_foreign"},
		"an xfs of somebody else": {format("/sbin/mkfs.xfs", "-q", "-L", "wrenn-dat"), MinSize, "data_fs_foreign"},
		"a directory with files": {func(t *testing.T, p Place) {
			check(t, os.MkdirAll(filepath.Join(p.Dir, "sandboxes"), 0o700))
		}, MinSize, "data_dir_in_use"},
		"a mounted directory": {func(t *testing.T, p Place) {
			check(t, os.Mkdir(p.Dir, 0o700))
			check(t, unix.Mount("tmpfs", p.Dir, "tmpfs", 0, ""))
			t.Cleanup(func() { check(t, unix.Unmount(p.Dir, 0)) })
		}, MinSize, "data_dir_in_use"},
		"too small a size": {func(*testing.T, Place) {}, MinSize - 1, "invalid_data_fs"},
	} {
		t.Run(name, func(t *testing.T) {
			p := place(t)
			c.before(t, p)
			before := facts(p.Image)
			_, err := p.Open(t.Context(), c.size)
			if fault.ReasonOf(err) != c.reason {
				t.Errorf("got %v, want %s", err, c.reason)
			}
			if after := facts(p.Image); after != before {
				t.Errorf("the file was changed: %s, was %s", after, before)
			}
			if c.reason == "data_fs_foreign" {
				_, err := p.Exists()
				wantFault(t, err, fault.WrongState, c.reason)
				wantFault(t, p.Close(), fault.WrongState, c.reason)
			}
		})
	}
}

// facts says all of a file that changes with its contents; nothing if there is
// none.
func facts(path string) string {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return ""
	}
	return fmt.Sprint(st.Ino, st.Size, st.Blocks, st.Mtim, st.Ctim)
}

func TestCancelledMakingLeavesNothing(t *testing.T) {
	p := place(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Open(ctx, MinSize); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left, err := filepath.Glob(p.Image + "*"); err != nil || len(left) != 1 || left[0] != p.Image+".lock" {
		t.Errorf("files after a cancelled Open: got %v, %v; want the lock only", left, err)
	}
}

func TestDefaultSize(t *testing.T) {
	dir := t.TempDir()
	var st unix.Statfs_t
	check(t, unix.Statfs(dir, &st))
	size, err := DefaultSize(dir)
	switch free := int64(st.Bavail) * st.Frsize; {
	case free < minDefaultSize:
		wantFault(t, err, fault.NoCapacity, "disk_full")
	case err != nil || size < minDefaultSize || size > maxDefaultSize || size > max(free*85/100, minDefaultSize):
		t.Errorf("%d of %d bytes, %v", size, free, err)
	}
}
