package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host/datafs"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/image"
)

func TestDataDirectory(t *testing.T) {
	dir := t.TempDir()
	data := datafs.Place{Image: filepath.Join(dir, "host.xfs"), Dir: filepath.Join(dir, "host")}
	can, err := disk.Probe(dir)
	if err != nil {
		t.Fatal(err)
	}
	look := func() Check { return checkReflink(Check{Status: OK, Found: data.Dir}, dir, Config{Data: data}) }

	plain := look()
	if (plain.Status == OK) != can.Reflink || (plain.Fix == "wrenn up --data-fs xfs") == can.Reflink {
		t.Errorf("on %s: %+v", can.FS, plain)
	}
	// A file with the superblock of ours, at the offsets that XFS has.
	head := make([]byte, 120)
	copy(head, "XFSB")
	copy(head[108:], "wrenn-data")
	if err := os.WriteFile(data.Image, head, 0o600); err != nil {
		t.Fatal(err)
	}
	if own := look(); own.Status != OK || own.Fix != "" || !strings.Contains(own.Found, "reflink") {
		t.Errorf("with a file system to be mounted: %+v", own)
	}
	if err := os.WriteFile(data.Image, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if foreign := look(); foreign.Status != Fail || !strings.Contains(foreign.Detail, data.Image) {
		t.Errorf("with a file of somebody else: %+v", foreign)
	}
}

func TestSpaceAndReserve(t *testing.T) {
	total, _, err := disk.Space(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if c := checkSpace(t.TempDir(), total+1); c.Status != Fail || !strings.Contains(c.Found, fmt.Sprintf("%d MB of them in reserve", (total+1)>>20)) {
		t.Errorf("below the reserve: %+v", c)
	}
	if c := checkSpace(t.TempDir(), 0); c.Status == Fail {
		t.Errorf("without a reserve: %+v", c)
	}
}

func TestSharedRoot(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root.erofs")
	if err := os.WriteFile(root, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	templates, proc := []image.Template{{Path: root}}, t.TempDir()
	// process makes one with root open with flags, and another file beside.
	process := func(pid int, flags int) {
		at := filepath.Join(proc, fmt.Sprint(pid))
		for _, sub := range []string{"fd", "fdinfo"} {
			if err := os.MkdirAll(filepath.Join(at, sub), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		for fd, target := range []string{"/dev/null", root} {
			if err := os.Symlink(target, filepath.Join(at, "fd", fmt.Sprint(fd))); err != nil {
				t.Fatal(err)
			}
			info := fmt.Sprintf("pos:\t0\nflags:\t0%o\nmnt_id:\t29\n", flags)
			if err := os.WriteFile(filepath.Join(at, "fdinfo", fmt.Sprint(fd)), []byte(info), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if c := checkSharing(templates, proc); c.Status != OK || !strings.HasPrefix(c.Found, "no VM") {
		t.Errorf("without VMs: %+v", c)
	}
	process(10, unix.O_CLOEXEC)
	process(11, unix.O_CLOEXEC)
	if c := checkSharing(templates, proc); c.Status != OK || !strings.HasPrefix(c.Found, "processes with a template open: 2, all") {
		t.Errorf("two VMs: %+v", c)
	}
	process(12, unix.O_DIRECT)
	if c := checkSharing(templates, proc); c.Status != Warn || !strings.HasSuffix(c.Found, "open: 3, of them past the page cache: 1") {
		t.Errorf("one of them with O_DIRECT: %+v", c)
	}

	f, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if c := checkSharing(templates, "/proc"); !strings.HasPrefix(c.Found, "processes with a template open: 1, all") {
		t.Errorf("open in this process: %+v", c)
	}
}
